"""The scheduling loop, in this process: order, sharing, reuse, failures, losses, two sweeps, Ctrl-C."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from toy_stages import RUNNERS, journal, toy

from scaling.engine import run as engine_run
from scaling.engine.inline import InlinePool
from scaling.engine.lease import Leases
from scaling.engine.progress import Progress
from scaling.engine.run import ClusterLost, execute, needed
from scaling.engine.store import Store
from scaling.engine.worker import Lost, run_stage


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def quiet():
    return Progress(Console(file=io.StringIO()))


def run(stages, store, **options):
    return execute(stages, store, InlinePool(store, RUNNERS), quiet(), **options)


class ScriptedPool:
    """Slots that end in scripted outcomes: a stage's next one, else it runs."""

    def __init__(self, store, slots=2, outcomes=()):
        self.store, self.slots, self.outcomes = store, slots, {stage: list(script) for stage, script in outcomes}
        self.running, self.submitted, self.most = [], [], 0

    def has_room(self, stage):
        return len(self.running) < self.slots

    def submit(self, stage):
        assert self.store.find(stage) is None
        self.running.append(stage)
        self.submitted.append(stage.config["text"])
        self.most = max(self.most, len(self.running))
        return stage

    def wait(self, handles, timeout_seconds):
        assert set(handles) == set(self.running)
        stage = self.running.pop(0)
        script = self.outcomes.get(stage)
        return [(stage, script.pop(0) if script else run_stage(stage, self.store, RUNNERS))]

    def cancel(self, handles):
        assert list(handles) == []


def test_stages_run_after_their_inputs_and_shared_ones_once(store, tmp_path):
    noted = os.fspath(tmp_path / "journal")
    base = toy("base", journal=noted)
    left, right = toy("left", base, journal=noted), toy("right", base, journal=noted)
    top = toy("top", left, right, journal=noted)
    report = run([top, left], store)
    assert journal(tmp_path / "journal") == ["base", "left", "right", "top"]
    assert report.is_complete and set(report.done) == {base, left, right, top}
    assert (store.find(top) / "text").read_text() == "topleftbaserightbase"


def test_what_is_stored_is_not_run_again_nor_are_its_inputs(store, tmp_path):
    noted = os.fspath(tmp_path / "journal")
    base = toy("base", journal=noted)
    top = toy("top", base, journal=noted)
    run([top], store)
    store.find(base).rmtree()
    report = run([top], Store(store.root))
    assert report.done == () and report.reused == (top,)
    side = toy("side", base, journal=noted)
    assert needed([top, side], Store(store.root)) == ([base, side], [top])


def test_a_failed_stage_blocks_its_descendants_and_nothing_else(store):
    broken = toy("x", kind="broken")
    child = toy("child", broken)
    grandchild = toy("grandchild", child, toy("other parent"))
    free = toy("free")
    report = run([grandchild, free], store)
    assert set(report.blocked) == {child, grandchild}
    assert set(report.done) == {free, toy("other parent")}
    ((stage, failure),) = report.failed
    assert stage == broken and failure["error"] == "ValueError: the toy is broken"
    assert "the toy is broken" in Path(failure["log"]).read_text()
    assert 'raise ValueError("the toy is broken")' in Path(failure["traceback"]).read_text()
    assert not report.is_complete
    assert store.find(broken) is None


def test_a_failure_is_tried_again_by_the_next_run(store):
    broken = toy("x", kind="broken")
    run([broken], store)
    repaired = {**RUNNERS, "broken": "toy_stages:write"}
    report = execute([broken], store, InlinePool(store, repaired), quiet())
    assert report.is_complete and store.failure(broken) is None


def test_the_longest_chain_goes_first_then_the_order_given(store):
    chain = toy("c3", toy("c2", toy("c1")))
    pool = ScriptedPool(store, slots=1)
    execute([toy("a"), toy("b"), chain], store, pool, quiet())
    assert pool.submitted == ["c1", "c2", "a", "b", "c3"]
    pool = ScriptedPool(store, slots=1)
    dear = toy("dear")
    execute([toy("cheap"), dear], store, pool, quiet(), cost=lambda stage: 10.0 if stage == dear else 1.0)
    assert pool.submitted == ["dear", "cheap"]


def test_all_slots_are_used_and_no_more(store):
    pool = ScriptedPool(store, slots=3)
    assert execute([toy(str(index)) for index in range(10)], store, pool, quiet()).is_complete
    assert pool.most == 3


def test_a_lost_worker_means_another_attempt_and_three_mean_failure(store):
    unlucky, doomed = toy("unlucky"), toy("doomed")
    lost = Lost("killed")
    pool = ScriptedPool(store, outcomes=[(unlucky, [lost, lost]), (doomed, [lost, lost, lost])])
    report = execute([unlucky, doomed, toy("after", doomed)], store, pool, quiet())
    assert report.done == (unlucky,) and report.losses == 5
    ((stage, failure),) = report.failed
    assert stage == doomed and failure["error"].startswith("WorkerLost: its worker died 3 times")
    assert failure["error"].endswith("killed")
    assert report.blocked == (toy("after", doomed),)


def test_a_worker_that_never_came_to_be_is_no_loss_of_the_stage(store):
    patient = toy("patient")
    pool = ScriptedPool(store, outcomes=[(patient, [Lost("no worker within 30 s", "start")] * 7)])
    report = execute([patient], store, pool, quiet())
    assert report.done == (patient,) and report.losses == 0 and len(pool.submitted) == 8


def test_a_stage_waits_before_the_next_try_when_memory_was_short_and_the_advice_is_not_a_smaller_batch(
    store, monkeypatch
):
    monkeypatch.setattr(engine_run, "PAUSE_SECONDS", 0.2)
    small, other = toy("small"), toy("other")
    pool = ScriptedPool(store, slots=1, outcomes=[(small, [Lost("memory is low", "memory")] * 3)])

    def wait(handles, timeout_seconds):
        time.sleep(0.01)
        return ScriptedPool.wait(pool, handles, timeout_seconds) if handles else []

    pool.wait = wait
    text = io.StringIO()
    started = time.monotonic()
    report = execute([small, other], store, pool, Progress(Console(file=text)))
    assert time.monotonic() - started > 0.2 + 0.4
    assert report.done == (other,) and report.losses == 3
    assert pool.submitted == ["small", "other", "small", "small"]  # the other one ran in the pause
    ((_, failure),) = report.failed
    assert "memory was almost full" in failure["error"] and "batch size" not in failure["error"]
    assert text.getvalue().count("node's memory is almost full; it runs again in") == 2


def test_a_stage_that_runs_for_too_long_is_ended_and_fails_and_others_are_not(store):
    hangs, quick = toy("hangs", kind="sft"), toy("quick")

    class Hanging(ScriptedPool):
        ended = ()

        def wait(self, handles, timeout_seconds):
            if self.running[-1:] == [quick] and self.running.pop():
                return [(quick, run_stage(quick, self.store, RUNNERS))]
            time.sleep(0.01)
            return [(self.running.pop(), Lost("killed"))] if self.ended else []

        def cancel(self, handles):
            self.ended += tuple(handles)

    pool = Hanging(store)
    report = execute([hangs, quick], store, pool, quiet(), timeouts={"train": 0.1})
    assert report.done == (quick,) and pool.ended == (hangs,) and pool.submitted.count("hangs") == 1
    ((stage, failure),) = report.failed
    assert stage == hangs and "longer than resources.timeout_minutes.train" in failure["error"]


def test_when_the_cluster_is_lost_the_leases_are_given_back(store):
    class Dead(ScriptedPool):
        def wait(self, handles, timeout_seconds):
            raise ClusterLost("Ray has died.")

        def cancel(self, handles):
            pass

    with pytest.raises(ClusterLost):
        execute([toy("a"), toy("b")], store, Dead(store), quiet())
    assert [path.name for path in (store.root / "leases").iterdir()] == [".lock"]


def test_a_truncated_artifact_is_run_again(store):
    base = toy("base")
    top = toy("top", base)
    run([top], store)
    (store.find(top) / "text").write_text("")
    report = run([top], Store(store.root))
    assert report.done == (top,) and report.reused == (base,)
    assert (store.find(top) / "text").read_text() == "topbase"


# Two sweeps at once


def test_a_stage_leased_elsewhere_is_waited_for_and_reused(store):
    base, top = toy("base"), toy("top", toy("base"))
    other = Leases(store.root / "leases")
    other.acquire(base)
    pool = ScriptedPool(store)
    waited = []

    def wait(handles, timeout_seconds):
        if handles:
            return ScriptedPool.wait(pool, handles, timeout_seconds)
        waited.append(timeout_seconds)
        if len(waited) == 2:
            run_stage(base, Store(store.root), RUNNERS)
            other.release(base)
        return []

    pool.wait = wait
    report = execute([top], store, pool, quiet())
    assert report.reused == (base,) and report.done == (top,) and len(waited) == 2


def test_a_failure_elsewhere_is_not_repeated_but_a_death_elsewhere_is_made_good(store):
    broken, orphan = toy("x", kind="broken"), toy("orphan")
    other = Leases(store.root / "leases")
    other.acquire(broken)
    other.acquire(orphan)
    pool = ScriptedPool(store)

    def wait(handles, timeout_seconds):
        if handles:
            return ScriptedPool.wait(pool, handles, timeout_seconds)
        run_stage(broken, Store(store.root), RUNNERS)
        other.__exit__(None, None, None)
        return []

    pool.wait = wait
    report = execute([broken, orphan], store, pool, quiet())
    assert pool.submitted == ["orphan"] and report.done == (orphan,)
    assert [stage for stage, _ in report.failed] == [broken]


SECONDS = 300  # for a driver on a busy machine
DRIVER = """
import io, sys
from rich.console import Console
from toy_stages import RUNNERS, toy
from scaling.engine.inline import InlinePool
from scaling.engine.progress import Progress
from scaling.engine.run import execute
from scaling.engine.store import Store
store = Store(sys.argv[1])
bases = [toy(f"base{i}", journal=sys.argv[2], seconds=0.02) for i in range(12)]
tops = [toy(f"top{i}", base, journal=sys.argv[2], seconds=float(sys.argv[3])) for i, base in enumerate(bases)]
report = execute(tops, store, InlinePool(store, RUNNERS), Progress(Console()))
print("complete" if report.is_complete else "not complete", flush=True)
"""


def _driver(store, noted, seconds):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-c", DRIVER, os.fspath(store.root), os.fspath(noted), str(seconds)]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_drivers_on_one_store_run_each_stage_once(store, tmp_path):
    drivers = [_driver(store, tmp_path / "journal", 0.02) for _ in range(2)]
    for driver in drivers:
        output, errors = driver.communicate(timeout=SECONDS)
        assert output.splitlines()[-1] == "complete", output + errors
    ran = journal(tmp_path / "journal")
    assert len(ran) == 24 and len(set(ran)) == 24


def test_ctrl_c_stops_cleanly_and_the_next_run_continues(store, tmp_path):
    driver = _driver(store, tmp_path / "journal", 5.0)
    deadline = time.monotonic() + SECONDS
    while not any(text.startswith("top") for text in journal(tmp_path / "journal")) and time.monotonic() < deadline:
        time.sleep(0.05)
    driver.send_signal(signal.SIGINT)
    output, errors = driver.communicate(timeout=SECONDS)
    assert driver.returncode == 0 and errors == ""
    assert "run the same command again to continue" in output and output.endswith("not complete\n")
    assert [path.name for path in (store.root / "leases").iterdir()] == [".lock"]
    done = [text for text in journal(tmp_path / "journal") if text.startswith("base")]
    resumed = _driver(store, tmp_path / "journal", 0.02)  # other seconds: other tops, the same bases
    assert resumed.communicate(timeout=SECONDS)[0].endswith("complete\n")
    ran = journal(tmp_path / "journal")
    assert all(ran.count(text) == 1 for text in done) and len(done) >= 1
