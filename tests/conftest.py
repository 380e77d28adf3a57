"""Fixtures that several test modules share."""

import logging
import os
import signal
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent

# Shared machines stall: a slow example, or slow drawing, is no failure. The same examples every time, so a green run
# stays green.
settings.register_profile("project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

# In the background of a script, and with nohup, a shell lets its programs ignore Ctrl-C, and they theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Let the test processes, and the processes that they start, share what jax compiles; it was 70 % of the time."""
    if not hasattr(config, "workerinput") and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="compile-cache-")
        config.add_cleanup(folder.cleanup)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder.name
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"


# Files of two to five minutes. At the end one of them would keep one of two test processes busy alone.
FIRST = ("test_tutorial", "test_sharding", "test_members", "test_jax_environment", "test_learners", "test_memory")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(FIRST)))


@pytest.fixture(scope="session")
def ray_cluster():
    """A Ray cluster of two cores on this machine that also claims a GPU and four TPU chips."""
    ray = pytest.importorskip("ray")
    # Workers find the project and the toy stages; Ray hands on the driver's own directory only.
    path = os.pathsep.join(os.fspath(folder) for folder in (TESTS.parent, TESTS))
    with warnings.catch_warnings():
        # Ray forks to start its processes; the children become other programs at once and touch nothing of jax.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=1,
            resources={"TPU": 4},
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": path}},
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def values_chain(tmp_path_factory):
    """The tiny chain of real stages up to step values."""
    from tiny_chain import Chain  # imports jax, which most tests do without

    return Chain(tmp_path_factory.mktemp("chain"), "step_values")


@pytest.fixture
def tiny(tmp_path):
    """Writes the tiny sweep with changes; its store is below tmp_path."""
    from toy_sweep import writer

    return writer(tmp_path)


@pytest.fixture
def toys(monkeypatch):
    """Toy stages in place of the real ones; see toy_sweep."""
    from toy_sweep import Toys

    return Toys(monkeypatch)
