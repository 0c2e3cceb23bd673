"""One thread for torch, one Ray for the whole session, and a place of its own for whatever a test writes."""

import os
import signal

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_health_check_initial_delay_ms", "0")
os.environ.setdefault("RAY_health_check_period_ms", "300")  # a node that is gone is missed within seconds

import pytest  # noqa: E402
import torch  # noqa: E402

from tests.faults import fault, pytest_addoption, pytest_pyfunc_call, pytest_terminal_summary  # noqa: E402, F401

torch.set_num_threads(1)
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in a background script, whose children would not hear of Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """What is marked slow runs where `-m` asks for it."""
    if not config.option.markexpr:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory):
    """A Ray of this machine, started once; tests run their actors on it.

    Its workers ignore SIGINT, as they do where a script in the background starts them.
    """
    ray = pytest.importorskip("ray")
    temp = tmp_path_factory.mktemp("ray")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        configure_logging=False,
        object_store_memory=150_000_000,
        _temp_dir=str(temp) if len(str(temp)) < 60 else None,
    )
    signal.signal(signal.SIGINT, before)
    yield ray
    ray.shutdown()


@pytest.fixture()
def seeded():
    """Torch's global generator from a fixed seed, put back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
