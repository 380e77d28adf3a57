"""Stages on real Ray workers: long-lived, replaced when killed, placed by resources, gone after Ctrl-C."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from toy_stages import RUNNERS, journal, toy

from scaling.engine.lease import Leases
from scaling.engine.pool import RayPool
from scaling.engine.progress import Progress
from scaling.engine.run import execute
from scaling.engine.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ONE_CORE = {"host": {"cpu": 1}}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def run(stages, store, resources):
    with RayPool(store.root, None, resources, runners=RUNNERS) as pool:
        return execute(stages, store, pool, Progress(Console(file=io.StringIO())))


def told(store, stage):
    return json.loads((store.find(stage) / "told.json").read_text())


def test_a_plan_runs_on_two_pinned_single_threaded_workers(ray_cluster, store):
    first = [toy(str(index), kind="problems", seconds=1) for index in range(6)]
    last = toy("last", *first, kind="problems")
    report = run([last], store, ONE_CORE)
    assert report.is_complete and len(report.done) == 7
    tellings = [told(store, stage) for stage in report.done]
    assert len({telling["pid"] for telling in tellings}) == 2
    assert all(len(telling["cores"]) == 1 for telling in tellings)
    assert tellings[0]["environment"]["XLA_FLAGS"].endswith("--xla_cpu_multi_thread_eigen=false")
    assert tellings[0]["environment"]["JAX_PLATFORMS"] == "cpu"
    assert tellings[0]["environment"]["JAX_COMPILATION_CACHE_DIR"] == os.fspath(store.root / "compile_cache")
    if len(os.sched_getaffinity(0)) > 1:
        assert len({tuple(telling["cores"]) for telling in tellings}) == 2


def test_a_failure_in_a_worker_blocks_and_all_else_goes_on(ray_cluster, store):
    broken = toy("x", kind="broken")
    report = run([toy("child", broken), toy("free")], store, ONE_CORE)
    assert report.done == (toy("free"),) and report.blocked == (toy("child", broken),)
    ((_, failure),) = report.failed
    assert failure["error"] == "ValueError: the toy is broken"


def test_a_killed_worker_is_replaced_and_its_stage_runs_again_from_its_checkpoint(ray_cluster, store, tmp_path):
    noted = os.fspath(tmp_path / "journal")
    mortal = toy("mortal", kind="mortal", journal=noted)
    report = run([toy("after", mortal_text := toy("free")), mortal], store, ONE_CORE)
    assert report.is_complete and report.losses == 1
    assert journal(tmp_path / "journal") == ["mortal", "mortal"]
    assert store.record(mortal)["numbers"] == {"litter": 0}
    assert store.find(mortal_text) is not None


def test_a_stage_that_kills_every_worker_fails_after_three(ray_cluster, store, tmp_path):
    doomed = toy("doomed", kind="doomed", journal=os.fspath(tmp_path / "journal"))
    report = run([doomed, toy("free")], store, ONE_CORE)
    assert report.done == (toy("free"),) and report.losses == 3
    assert "its worker died 3 times" in report.failed[0][1]["error"]
    assert journal(tmp_path / "journal") == ["doomed"] * 3


def test_fractions_of_a_gpu_pack_and_a_tpu_is_asked_by_name(ray_cluster, store):
    resources = {"train": {"gpu": 0.25}, "rollouts": {"tpu": 4}, "host": {"cpu": 1}}
    quarters = [toy(str(index), kind="sft", seconds=1) for index in range(4)]
    tpu = toy("tpu", kind="rollouts")
    assert run([*quarters, tpu], store, resources).is_complete
    tellings = [told(store, stage) for stage in quarters]
    assert {telling["environment"]["CUDA_VISIBLE_DEVICES"] for telling in tellings} == {"0"}
    assert {telling["environment"]["XLA_CLIENT_MEM_FRACTION"] for telling in tellings} == {"0.225"}
    assert len({telling["pid"] for telling in tellings}) == 4
    assert told(store, tpu)["environment"]["TPU_VISIBLE_CHIPS"] == "0,1,2,3"
    assert "CUDA_VISIBLE_DEVICES" not in told(store, tpu)["environment"]


def test_idle_workers_make_way_for_another_shape(ray_cluster, store):
    resources = {"train": {"cpu": 2}, "host": {"cpu": 1}}
    small = [toy(str(index), kind="problems") for index in range(2)]
    large = toy("large", *small, kind="sft")
    again = toy("again", large, kind="problems")
    assert run([again], store, resources).is_complete
    assert told(store, large)["environment"]["NPROC"] == "2"


def test_resources_the_cluster_lacks_are_an_error_before_anything_starts(ray_cluster, store):
    with pytest.raises(ValueError, match=r"resources.train asks for GPU 2, but no node of the Ray cluster"):
        run([toy("a")], store, {"train": {"gpu": 2}, "host": {"cpu": 1}})
    assert not store.root.exists()


SECONDS = 300  # for a driver on a busy machine
DRIVER = """
import sys
from rich.console import Console
from toy_stages import RUNNERS, toy
from scaling.engine import lease
from scaling.engine.pool import RayPool
from scaling.engine.progress import Progress
from scaling.engine.run import execute
from scaling.engine.store import Store
if __name__ == "__main__":
    lease.STALE_SECONDS = 1e6  # so that only a death frees a lease
    store = Store(sys.argv[1])
    stages = [toy(str(index), seconds=60, journal=sys.argv[2]) for index in range(3)]
    with RayPool(store.root, None, {"host": {"cpu": 1}}, runners=RUNNERS) as pool:
        report = execute([*stages, toy("quick", journal=sys.argv[2])], store, pool, Progress(Console()))
    sys.exit(0 if report.is_complete else 130)
"""


def _driver(store, tmp_path):
    program = tmp_path / "driver.py"
    program.write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, os.fspath(program), os.fspath(store.root), os.fspath(tmp_path / "journal")]
    driver = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + SECONDS
    while not _executes(driver.pid, store, tmp_path) and time.monotonic() < deadline and driver.poll() is None:
        time.sleep(0.1)
    return driver


def _executes(pid, store, tmp_path):
    """Whether the process holds a lease and a stage has started.

    The journal alone does not say it: workers of a driver that was killed before may still write to it.
    """
    noted = os.fspath(tmp_path / "journal")
    holders = [
        Leases(Path(store.root, "leases")).holder(toy(str(index), seconds=60, journal=noted)) for index in range(3)
    ]
    return bool(journal(tmp_path / "journal")) and pid in [holder.pid for holder in holders if holder is not None]


def test_ctrl_c_ends_the_workers_and_says_how_to_continue(store, tmp_path):
    driver = _driver(store, tmp_path)
    driver.send_signal(signal.SIGINT)
    output, errors = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 130, errors
    assert errors == "" and "run the same command again to continue" in output
    assert [path.name for path in (store.root / "leases").iterdir()] == [".lock"]


def test_after_a_killed_driver_the_next_takes_over_without_waiting_a_minute(store, tmp_path):
    driver = _driver(store, tmp_path)
    driver.send_signal(signal.SIGKILL)
    driver.communicate(timeout=SECONDS)
    (tmp_path / "journal").unlink()
    successor = _driver(store, tmp_path)
    successor.send_signal(signal.SIGINT)
    successor.communicate(timeout=SECONDS)
    assert successor.returncode == 130 and journal(tmp_path / "journal")
