"""Sweeps on clusters of several nodes, in network namespaces of this machine: what the death of a node does."""

import contextlib
import os
import sys
import time
from pathlib import Path

import pytest
import ray_nodes
from toy_stages import journal

from scaling.engine.store import Store

pytestmark = [
    pytest.mark.long,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(bool(ray_nodes.why_not()), reason=ray_nodes.why_not() or "-"),
]

TESTS = Path(__file__).parent
SECONDS = 200  # for a sweep to come to its end after a node has died, on a busy machine; Ray notices within 70
PATHS = {"PYTHONPATH": os.pathsep.join([os.fspath(TESTS.parent), os.fspath(TESTS)])}

DRIVER = """
import json, os, sys
from rich.console import Console
import group_stages, toy_stages
from scaling.engine.pool import RayPool
from scaling.engine.progress import Progress
from scaling.engine.run import Outage, execute
from scaling.engine.store import Store
toy = toy_stages.toy
root, noted, address, plan = sys.argv[1:]
store = Store(root)
runners = {**toy_stages.RUNNERS, "rft": "group_stages:fit", "dpo": "group_stages:fit_slowly"}
hosts, meshes = {}, {}
if plan == "toys":
    stages = [toy(str(index), journal=noted, seconds=8) for index in range(6)]
    resources = {"host": {"cpu": 1}}
if plan == "group":
    stages, resources = [toy(noted, kind="dpo")], {"train": {"cpu": 1}}
    hosts, meshes = {"train": 2}, {"train": {"data": 1, "fsdp": 2, "tensor": 1}}
if plan == "large":
    base = [toy(str(index), journal=noted, seconds=3) for index in range(4)]
    stages = [toy("large", *base, kind="sft")]
    resources = {"host": {"cpu": 1}, "train": {"cpu": 2}}
try:
    with RayPool(store.root, None, resources, address, runners=runners, meshes=meshes, hosts=hosts) as pool:
        report = execute(stages, store, pool, Progress(Console(width=200)))
except Outage as error:
    print("OUTAGE", error, flush=True)
    os._exit(error.exit_status)
print(json.dumps({"done": len(report.done), "failed": len(report.failed), "losses": report.losses}), flush=True)
for _, failure in report.failed:
    print(failure["error"])
sys.exit(0 if report.is_complete else 1)
"""


@contextlib.contextmanager
def driver(nodes: ray_nodes.Nodes, tmp_path: Path, plan: str):
    program = tmp_path / "driver.py"
    program.write_text(DRIVER)
    arguments = [os.fspath(tmp_path / "store"), os.fspath(tmp_path / "journal"), nodes.address, plan]
    process = nodes.popen(0, [sys.executable, os.fspath(program), *arguments], PATHS)
    try:
        yield process
    finally:
        nodes.kill(0)  # and all that runs on it
        process.communicate()


def wait_for(condition, process) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    assert condition(), process.communicate() if process.poll() is not None else "nothing has happened"


@pytest.mark.parametrize("how", ["kill", "cut_off"])
def test_a_sweep_goes_on_when_a_node_dies(tmp_path, how):
    with ray_nodes.Nodes([1, 1], PATHS) as nodes, driver(nodes, tmp_path, "toys") as process:
        wait_for(lambda: len(journal(tmp_path / "journal")) >= 2, process)  # one on each
        getattr(nodes, how)(1)
        output, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, output + errors
        assert '"failed": 0' in output
    assert len(list((tmp_path / "store/toy").glob("*/record.json"))) == 6


def test_a_group_that_loses_a_node_continues_on_those_that_are_left(tmp_path):
    with ray_nodes.Nodes([1, 1, 1], PATHS) as nodes, driver(nodes, tmp_path, "group") as process:
        wait_for(lambda: len(journal(tmp_path / "journal")) >= 2, process)  # both compute
        member = next(index for index in (1, 2) if f"n{index}" in (tmp_path / "journal").read_text())
        nodes.kill(member)
        output, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, output + errors
        assert '"done": 1, "failed": 0, "losses": 1' in output
    assert Store(tmp_path / "store")
    assert not list((tmp_path / "store/failures").rglob("failure.json"))


def test_stages_that_no_node_that_is_left_has_room_for_end_the_sweep(tmp_path):
    with ray_nodes.Nodes([1, 2], PATHS) as nodes, driver(nodes, tmp_path, "large") as process:
        wait_for(lambda: len(journal(tmp_path / "journal")) >= 1, process)
        nodes.kill(1)
        output, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 4, output + errors
        assert "No node of the Ray cluster that is alive has what resources.train asks for" in output
    assert len(list((tmp_path / "store/toy").glob("*/record.json"))) == 4


@pytest.mark.parametrize("victim", ["raylet", "gcs_server"])
def test_the_death_of_the_head_is_one_sentence(tmp_path, victim):
    with ray_nodes.Nodes([1, 1], PATHS) as nodes, driver(nodes, tmp_path, "toys") as process:
        wait_for(lambda: len(journal(tmp_path / "journal")) >= 1, process)
        nodes.kill_process(0, victim)
        output, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 4, output + errors
        said = output + errors  # raised from a call of Ray, or by the watch where the call never returns
        assert said.count("What is done is stored") == 1 and "Traceback" not in said, said
