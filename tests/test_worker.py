"""One stage in this process: its record, its log, and its failures."""

import importlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy_stages import RUNNERS, toy

from scaling.engine import provenance
from scaling.engine.store import Store
from scaling.engine.worker import Done, Failed, Lost, StageWorker, run_stage
from scaling.stage import PROVENANCE_FILE, Stage


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_a_number_that_is_not_finite_fails_the_stage(store):
    for value, words in ((float("nan"), "is nan; expected a finite one"), ("3", "is a str"), (True, "is a bool")):
        outcome = run_stage(toy("a"), store, {"toy": lambda config, inputs, out, value=value: {"accuracy": value}})
        assert isinstance(outcome, Failed) and words in outcome.failure["error"]


def test_the_record_says_what_ran_where_and_how_long(store):
    base = toy("base")
    for stage in (base, toy("top", base, seed=3)):
        run_stage(stage, store, RUNNERS, {"commit": "0123abc", "dirty": True})
    record = store.record(toy("top", base, seed=3))
    assert record["kind"] == "toy" and record["seed"] == 3 and record["config"] == {"text": "top", "seed": 3}
    assert record["inputs"] == {"input0": base.digest} and record["numbers"] == {"length": 7}
    assert record["wall_seconds"] >= 0 and record["files"].keys() == {"text", "log.txt"}
    provenance = record["provenance"]
    assert provenance["commit"] == "0123abc" and provenance["dirty"]
    assert provenance["packages"]["numpy"] and provenance["host"] and provenance["python"]


def test_a_stage_is_told_how_to_run_and_tells_where_its_result_came_from(store):
    def ask(config, inputs, out):
        (out / PROVENANCE_FILE).write_text(json.dumps({"server": config["server"], "commit": "a server's own"}))
        return {"length": len(config)}

    stage = Stage("toy", {"text": "a"}, execution={"server": "gpu7"})
    record = run_stage(stage, store, {"toy": ask}, {"commit": "0123abc"}).record
    assert record["config"] == {"text": "a"} and record["numbers"] == {"length": 2}
    assert record["provenance"]["server"] == "gpu7" and record["provenance"]["commit"] == "0123abc"


def test_what_a_stage_logs_is_in_its_artifact_and_what_a_failed_one_logs_in_its_failure(store):
    def log(config, inputs, out):
        logging.getLogger("data.some_stage").info("accuracy is %s", 0.5)
        logging.getLogger("absl").info("a library talks")
        if config["text"] == "raises":
            raise SystemExit("no more")
        return {}

    level = logging.getLogger().level
    assert isinstance(run_stage(toy("fine"), store, {"toy": log}), Done)
    kept = (store.find(toy("fine")) / "log.txt").read_text()
    assert "INFO data.some_stage: accuracy is 0.5" in kept and "a library talks" not in kept
    failed = run_stage(toy("raises"), store, {"toy": log})
    assert isinstance(failed, Failed) and failed.failure["error"] == "SystemExit: no more"
    written = Path(failed.failure["log"]).read_text()
    assert "accuracy is 0.5" in written and "Traceback" in written
    assert logging.getLogger().level == level


LATIN = r"""
import io, logging, sys
from toy_stages import toy
from scaling.engine.store import Store
from scaling.engine.worker import run_stage
def fail(config, inputs, out):
    logging.getLogger("data.toy").info("it costs 5 \u20ac")
    raise ValueError("the toy is br\u00fcchig \udcff")
failure = run_stage(toy("a"), Store(sys.argv[1]), {"toy": fail}).failure
assert failure["error"].startswith("ValueError: the toy is br"), failure
"""


def test_an_ascii_locale_hides_no_error(tmp_path):
    ascii_only = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environment = {**os.environ, **ascii_only, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", LATIN, os.fspath(tmp_path / "store")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, done.stderr
    (log,) = tmp_path.glob("store/failures/toy/*/log.txt")
    assert "it costs 5 €" in log.read_text(encoding="utf-8")
    assert "brüchig" in (log.parent / "traceback.txt").read_text(encoding="utf-8")


def test_a_lost_member_is_no_failure_of_a_stage_in_a_group_and_one_of_a_stage_alone(store):
    def lose(config, inputs, out):
        try:
            raise RuntimeError(config["text"])
        except RuntimeError as error:
            raise RuntimeError("while it trained") from error

    for words in (
        "INTERNAL: Gloo all-reduce failed: [pair.cc:547] Connection closed by peer [10.77.0.2]:31813",
        "UNAVAILABLE: failed to connect to all addresses",
        "DEADLINE_EXCEEDED: Barrier timed out. Id: checkpoint::1",
        "NCCL operation ncclAllReduce failed: unhandled system error",
    ):
        outcome = run_stage(toy(words), store, {"toy": lose}, in_group=True)
        assert isinstance(outcome, Lost) and words in outcome.reason and store.failure(toy(words)) is None
        assert isinstance(run_stage(toy(words), store, {"toy": lose}), Failed)
    own = run_stage(toy("train/loss is nan in updates 1 to 5"), store, {"toy": lose}, in_group=True)
    assert isinstance(own, Failed)


def test_ctrl_c_in_a_stage_is_no_failure_and_gives_up_the_work_directory(store):
    def interrupt(config, inputs, out):
        (out / "checkpoints").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage(toy("a"), store, {"toy": interrupt})
    assert store.failure(toy("a")) is None and store.find(toy("a")) is None
    assert (store.work_dir(toy("a")) / "checkpoints").exists()


def test_numpy_numbers_become_plain_ones(store):
    numpy = importlib.import_module("numpy")
    numbers = {"count": numpy.int64(3), "loss": numpy.float32(0.5)}
    outcome = run_stage(toy("a"), store, {"toy": lambda config, inputs, out: numbers})
    assert outcome.record["numbers"] == {"count": 3, "loss": 0.5}
    assert [type(value) for value in outcome.record["numbers"].values()] == [int, float]


def test_a_worker_keeps_its_store_between_stages(store):
    actor = StageWorker(str(store.root), None, RUNNERS, {}, ())
    assert isinstance(actor.run(toy("base")), Done)
    assert actor.run(toy("top", toy("base"))).record["numbers"] == {"length": 7}


def test_provenance_is_found_once_and_leaves_out_what_is_not_known(tmp_path, monkeypatch):
    provenance.checkout.cache_clear()
    monkeypatch.setattr(provenance, "PROJECT", tmp_path)
    assert provenance.checkout() == {}
    provenance.checkout.cache_clear()
    found = provenance.provenance()
    assert found["packages"].keys() <= set(provenance.PACKAGES) and found["host"]
