"""Fixtures that several test modules share."""

import logging
import os
import signal
import tempfile
import uuid
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


@pytest.fixture(scope="session")
def s3_endpoint():
    """A server of S3 on this machine."""
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def s3_store(s3_endpoint, monkeypatch, move):
    """A store in a bucket of its own; processes that are started find the server, too."""
    import boto3
    from etils.epath import backend

    from scaling.engine.store import Store

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    move()
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    yield Store(f"s3://{bucket}/store")
    backend.fsspec_backend._get_filesystem.cache_clear()


@pytest.fixture
def move(monkeypatch, tmp_path):
    """Moves this process to another node, as far as scratch folders go."""
    nodes = iter(range(10**6))

    def moved():
        scratch = tmp_path / f"node-{next(nodes)}"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", os.fspath(scratch))

    return moved


@pytest.fixture
def memory_bucket(monkeypatch):
    """A bucket in this process's memory, as scaling.copies sees it; returns a folder of it and the file system."""
    import fsspec
    from etils import epath

    files = fsspec.filesystem("memory")
    monkeypatch.setattr("scaling.copies.file_system", lambda place: files)
    place = epath.Path(f"/{uuid.uuid4().hex}")
    yield place, files
    if files.exists(os.fspath(place)):
        files.rm(os.fspath(place), recursive=True)


@pytest.fixture
def prompt(monkeypatch):
    """Copies are made before training goes on: a kill within this process ends no thread."""
    from scaling.copies import Copies

    send = Copies.send

    def sent(self, *what):
        send(self, *what)
        self.wait()

    monkeypatch.setattr(Copies, "send", sent)
