"""Whether freed memory is kept, by the kernel's own count of page faults."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource
import torch
from ray_jobs.run.memory import keep_freed
if {keep}:
    assert keep_freed()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    held = [torch.zeros(200_000) for _ in range(20)]
for _ in range(3):
    work()
before = faults()
for _ in range(20):
    work()
print(faults() - before)
"""


HUGE = """
import re
import torch
from ray_jobs.run.memory import keep_freed
keep_freed()
*before, x = (torch.ones(1_000_000) for _ in range(20))
regions = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", open("/proc/self/smaps").read(), flags=re.M)[1:]
ends = [[int(n, 16) for n in r.split()[0].split("-")] for r in regions]
holds = [r for r, (a, b) in zip(regions, ends) if a <= x.data_ptr() < b]
print(" hg" in holds[0].split("VmFlags:")[1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the kernel has no huge pages")
def test_new_tensors_lie_where_huge_pages_were_asked_for():
    """By the kernel's own list of regions."""
    assert subprocess.check_output([sys.executable, "-c", HUGE], timeout=60) == b"True\n"


RETURNED = """
import os
import torch
from ray_jobs.run.memory import freed_kept
def held():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = held()
with freed_kept():
    blocks = [torch.ones(200_000) for _ in range(100)]
    del blocks[::2], blocks
    inside = held() - before
print(inside, held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_afterwards_what_was_freed_goes_back():
    """80 MB, kept inside and not after."""
    said = subprocess.check_output([sys.executable, "-c", RETURNED], timeout=60)
    inside, after = map(int, said.split())
    assert after < 10e6 < 70e6 < inside


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_blocks_that_are_freed_and_asked_for_again_fault_no_pages():
    """20 rounds of 16 MB, in processes that begin with a threshold at which all of it, 3,900 pages, goes back to the kernel."""
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    freed, kept = (
        int(subprocess.check_output([sys.executable, "-c", CODE.format(keep=k)], env=env, timeout=60))
        for k in (False, True)
    )
    assert kept < 100 < freed
