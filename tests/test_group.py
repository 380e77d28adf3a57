"""One stage on two processes: a Ray placement group of two workers, the results of one, and what a death does."""

import io

import pytest
from group_stages import RUNNERS
from rich.console import Console
from toy_stages import toy

from scaling.engine.pool import RayPool
from scaling.engine.progress import Progress
from scaling.engine.run import execute
from scaling.engine.store import Store

pytestmark = [pytest.mark.long, pytest.mark.ray, pytest.mark.slow]

CORE = {"cpu": 1}
OVER_TWO = {"data": 1, "fsdp": 2, "tensor": 1}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def run(stages, store, hosts=2):
    resources, meshes = {"train": CORE, "host": CORE}, {"train": OVER_TWO} if hosts == 2 else {}
    with RayPool(store.root, None, resources, runners=RUNNERS, meshes=meshes, hosts={"train": hosts}) as pool:
        return execute(stages, store, pool, Progress(Console(file=io.StringIO())))


def test_two_hosts_train_one_policy_keep_their_processes_and_give_way_to_other_workers(ray_cluster, store, tmp_path):
    first, second, alone = toy("a", kind="sft"), toy("b", kind="sft"), toy("c", kind="problems")
    report = run([first, second, alone], store)
    assert report.is_complete and not report.losses
    numbers, again, one = (store.numbers(stage) for stage in (first, second, alone))
    assert (numbers["processes"], one["processes"]) == (2, 1)
    assert numbers["pid"] == again["pid"]
    assert numbers["train/loss"] == pytest.approx(one["train/loss"], rel=1e-4)
    assert {path.name for path in store.find(first).iterdir()} >= {"policy.safetensors", "metrics.jsonl"}


def test_a_member_that_dies_takes_its_group_along_and_the_stage_runs_again(ray_cluster, store, tmp_path):
    stage = toy(str(tmp_path), kind="rft")
    report = run([stage], store)
    assert report.is_complete and report.losses == 1
    assert store.numbers(stage)["processes"] == 2


def test_a_member_that_raises_fails_the_stage_with_its_error(ray_cluster, store):
    report = run([toy("x", kind="dpo")], store)
    ((_, failure),) = report.failed
    assert "the second is broken" in failure["error"] and not report.losses
