"""`python -m ray_jobs VERB`, where the command `reprise` is not on the path."""

import sys

from ray_jobs.cli import main

if __name__ == "__main__":
    sys.exit(main())
