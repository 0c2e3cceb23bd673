"""One thread for torch, one Ray for the whole session, and a place of its own for whatever a test writes."""

import gc
import os
import signal

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_health_check_initial_delay_ms", "0")
os.environ.setdefault("RAY_health_check_period_ms", "300")  # a node that is gone is missed within seconds
os.environ.setdefault("RAY_worker_niceness", "0")  # by default 15: the tests of another process would leave them little

import pytest  # noqa: E402
import torch  # noqa: E402

from tests.faults import fault, pytest_addoption, pytest_pyfunc_call, pytest_terminal_summary  # noqa: E402, F401
from tests.real_data import emoji_32, fashion, mnist  # noqa: E402, F401

LONGEST = (
    "test_tune", "test_tune_scale", "test_ray_cluster", "test_other_device", "test_pools", "test_runner", "test_terminal",
    "test_train", "test_launchers", "test_elastic", "test_crew", "test_submit", "test_jobs_cli", "test_algorithms",
)  # fmt: skip
"""Files that take minutes, the longest first: they start first, so that no process has one of them left when the others are done."""
LATER = ("slow", "fault")  # marked tests that run only where -m asks for them

torch.set_num_threads(1)
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as in a background script, whose children would not hear of Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Deselect what is marked slow or fault unless `-m` is given, and begin with the longest files.

    Each file's tests run in one process (`--dist loadfile`): they share its trainings and clusters, fixtures of the module's scope.
    """
    if not config.option.markexpr:
        later = {item for item in items if any(item.get_closest_marker(name) for name in LATER)}
        config.hook.pytest_deselected(items=list(later))
        items[:] = [item for item in items if item not in later]
    place = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


def pytest_collection_finish(session):
    """Take the tests that were collected out of garbage collection: they stay, and a search of all of them takes 0.4 s each time."""
    gc.collect()
    gc.freeze()


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
