"""Speed, side by side with peers: each `python -m benchmarks.NAME` measures all contenders in one run."""
