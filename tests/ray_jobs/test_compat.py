"""The private and platform interfaces that ray_jobs.compat uses are still there, and do what it says."""

import platform
import signal
import subprocess
import sys

import pytest

from ray_jobs import compat

GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")


def test_signal_handlers_are_set_as_by_the_public_function():
    heard, before = [], signal.getsignal(signal.SIGUSR1)

    def handler(number, frame):
        heard.append(number)

    try:
        assert compat.set_handler(signal.SIGUSR1, handler) == before
        assert signal.getsignal(signal.SIGUSR1) is handler
        signal.raise_signal(signal.SIGUSR1)
        assert heard == [signal.SIGUSR1]
        compat.set_handler(signal.SIGUSR1, None)  # what Python says of a handler that C code has set
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, before)


ALLOCATOR = """
from ray_jobs import compat
assert compat.mallopt(compat.MMAP_THRESHOLD, 2**25)
assert compat.mallopt(compat.TRIM_THRESHOLD, 2**31 - 1)
compat.huge_pages_at_top(2**25 - compat.PAGE, 2**28, 2**17)
heap = [line for line in open("/proc/self/maps") if line.rstrip().endswith("[heap]")]
sizes = [int(b, 16) - int(a, 16) for a, b in (line.split()[0].split("-") for line in heap)]
assert sum(sizes) >= 2**28, sizes
compat.malloc_trim()
heap = [line for line in open("/proc/self/maps") if line.rstrip().endswith("[heap]")]
sizes = [int(b, 16) - int(a, 16) for a, b in (line.split()[0].split("-") for line in heap)]
assert sum(sizes) < 2**28, sizes
"""


@GLIBC
def test_the_allocator_grows_and_trims_as_asked():
    subprocess.run([sys.executable, "-c", ALLOCATOR], check=True, timeout=60)


def test_ray_train_names_the_errors_of_groups_that_never_started_as_we_expect():
    internal = pytest.importorskip("ray.train.v2._internal.exceptions")
    from ray.train import ControllerError, WorkerGroupError

    never = internal.WorkerGroupStartupTimeoutError(1)
    assert compat.failed_to_start(ControllerError(never))
    assert internal.WorkerGroupStartupFailedError.__name__.startswith("WorkerGroupStartup")
    assert not compat.failed_to_start(ControllerError(ValueError("another")))
    assert not compat.failed_to_start(WorkerGroupError("a worker died", {0: ValueError()}))
    assert not compat.failed_to_start(None)


def test_an_actor_says_when_its_process_has_started(ray_cluster):
    class Small:
        pass

    actor = ray_cluster.remote(num_cpus=0)(Small).remote()
    ready = compat.actor_ready(actor)
    started, waiting = ray_cluster.wait([ready], timeout=120)
    ray_cluster.kill(actor)
    assert started == [ready] and not waiting


def test_the_counter_of_operations_counts_a_gradient_of_a_gradient():
    import torch

    w = torch.randn(3, 4, requires_grad=True)
    x = torch.randn(2, 3, requires_grad=True)
    with compat.flop_counter() as counter:
        slope = torch.autograd.grad((x @ w).square().sum(), x, create_graph=True)[0]
        slope.square().sum().backward()
    assert counter.get_total_flops() >= 4 * 2 * 2 * 3 * 4
