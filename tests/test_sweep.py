"""The command line of a sweep: what it prints, writes and returns, with toy stages and once with the real ones."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from scaling import sweep
from scaling.engine.inline import InlinePool
from scaling.stage import VERSIONS

ROOT = Path(__file__).parent.parent
TINY = {
    "question": "Does it run?",
    "problems": {
        "family": "modular_sum",
        "modulus": 11,
        "operands": 3,
        "zipf_exponent": 0.0,
        "num_validation": 8,
        "num_test": 16,
    },
    "policy": {"size": "xxs", "base": "random"},
    "rollouts": {"samples_per_problem": 4},
    "step_values": {"rollouts_per_prefix": 2},
    "evaluation": {"samples_per_problem": 2, "pass_at": [2]},
    "grid": {"algorithm": ["sft", "rft", "dpo", "step_dpo"], "data_size": [8]},
    "seeds": [0, 1],
}


@pytest.fixture
def tiny(tmp_path):
    """Write the tiny sweep with changes; its store is below tmp_path."""

    def write(**changes) -> str:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**TINY, "store": str(tmp_path / "store"), **changes}))
        return str(path)

    return write


class Toys:
    """In-process stages of no work, for every kind, that note what ran and fail or stop where they are told to."""

    def __init__(self, monkeypatch):
        self.ran: list[str] = []
        self.raises: dict[str, BaseException] = {}
        self.error_of = lambda config: 0.5
        self.before = lambda kind, config: None
        runners = {kind: self._runner(kind) for kind in VERSIONS}
        monkeypatch.setattr(sweep, "_pool", lambda sweep_, store, arguments: InlinePool(store, runners))
        monkeypatch.setattr(sweep, "_write_report", lambda *arguments: None, raising=False)

    def _runner(self, kind):
        def run(config, inputs, out):
            self.ran.append(kind)
            self.before(kind, config)
            if kind in self.raises:
                raise self.raises[kind]
            (out / "done").write_text(kind)
            return {"error": self.error_of(config)} if kind == "evaluation" else {}

        return run


@pytest.fixture
def toys(monkeypatch):
    return Toys(monkeypatch)


def everything_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Path -> (size, time of last change), folders included."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in (folder, *folder.rglob("*"))
    }


def counts(text: str) -> dict[str, int]:
    """The counts of the plan's line of stages."""
    line = re.search(r"^Stages: .*", text, re.M).group()
    return {name: int(number) for number, name in re.findall(r"(\d+) (named|distinct|stored|to run)", line)}


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        sweep.main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--plan", "--status", "--address", "--inline", "--set KEY=VALUE", "docs/sweeps.md"):
        assert option in shown


def test_plan_counts_stages_and_writes_nothing(tiny, tmp_path, toys, capsys):
    file = tiny()
    before = everything_below(tmp_path)
    assert sweep.main([file, "--plan"]) == 0
    assert everything_below(tmp_path) == before
    assert toys.ran == []
    found = counts(capsys.readouterr().out)
    # Base policy and problems once; a seed has 4 of D_syn, SFT, rollouts, verification; 2 of RFT, 2 of DPO, 3 of
    # per-step DPO, and 4 evaluations; the base policy is evaluated once.
    assert found["distinct"] == 2 + 2 * (4 + 2 + 2 + 3 + 4) + 1
    assert found["to run"] == found["distinct"]
    assert found["stored"] == 0
    # Without sharing: each run also has the base policy and the problems; SFT needs 2 stages besides them and the
    # evaluation, the others 4 and their own 2, 2 and 3; the base policy's evaluation needs 3 stages in all.
    assert found["named"] == 2 * (3 * 4 + 2 + (4 + 2) + (4 + 2) + (4 + 3)) + 3


def test_after_a_run_the_plan_finds_everything_stored_and_still_writes_nothing(tiny, tmp_path, toys, capsys):
    file = tiny()
    assert sweep.main([file]) == 0
    capsys.readouterr()
    before = everything_below(tmp_path)
    assert sweep.main([file, "--plan"]) == 0
    assert everything_below(tmp_path) == before
    found = counts(capsys.readouterr().out)
    assert found["stored"] == found["distinct"] > 0
    assert found["to run"] == 0


def test_plan_says_why_stored_stages_run_again(tiny, toys, capsys):
    assert sweep.main([tiny()]) == 0
    assert sweep.main([tiny(), "--plan", "--set", "sft.epochs=7"]) == 0
    assert "sft, 2 stages: config.sft.epochs 5 -> 7" in capsys.readouterr().out


def test_a_second_run_does_nothing(tiny, toys, capsys):
    assert sweep.main([tiny()]) == 0
    first = len(toys.ran)
    assert first > 0
    capsys.readouterr()
    assert sweep.main([tiny()]) == 0
    assert len(toys.ran) == first
    assert "start" not in capsys.readouterr().out


def test_only_what_is_missing_runs_when_an_axis_grows(tiny, toys):
    assert sweep.main([tiny()]) == 0
    toys.ran.clear()
    assert sweep.main([tiny(seeds=[0, 1, 2])]) == 0
    assert toys.ran.count("sft") == 1
    assert "pretrain" not in toys.ran


def test_status_counts_before_and_after(tiny, toys, capsys):
    file = tiny()
    assert sweep.main([file, "--status"]) == 0
    assert "0 done / 0 running / 0 blocked / 0 failed / 33 waiting" in capsys.readouterr().out
    assert sweep.main([file]) == 0
    capsys.readouterr()
    assert sweep.main([file, "--status"]) == 0
    assert "0 running / 0 blocked / 0 failed / 0 waiting" in capsys.readouterr().out


def test_a_failed_stage_gives_exit_one_and_a_list_of_cell_root_error_and_log(tiny, tmp_path, toys, capsys):
    toys.raises["pairs"] = ValueError("the pairs are broken")
    file = tiny()
    assert sweep.main([file]) == 1
    shown = capsys.readouterr().out
    listed = shown.partition("2 stages failed:")[2]
    assert listed.count("ValueError: the pairs are broken") == 2
    assert "cells: algorithm=dpo, data_size=8, seed=0" in listed
    logs = re.findall(r"log: (\S+)", listed)
    assert len(logs) == 2
    for log in logs:
        assert Path(log).is_file() and tmp_path in Path(log).parents
    for traceback in re.findall(r"traceback: (\S+)", listed):
        assert "the pairs are broken" in Path(traceback).read_text()
    assert toys.ran.count("rft") == toys.ran.count("step_pairs") == 2  # everything else ran on
    assert sweep.main([file, "--status"]) == 0
    assert "4 blocked / 2 failed / 0 waiting" in capsys.readouterr().out  # two policies and their evaluations
    del toys.raises["pairs"]
    assert sweep.main([file]) == 0  # the next run tries again


def test_ctrl_c_stops_with_exit_130_and_the_next_run_continues(tiny, toys, capsys):
    toys.raises["rft"] = KeyboardInterrupt()
    file = tiny()
    assert sweep.main([file]) == 130
    assert "run the same command again to continue" in capsys.readouterr().out
    finished = [kind for kind in toys.ran if kind != "rft"]
    del toys.raises["rft"]
    toys.ran.clear()
    assert sweep.main([file]) == 0
    assert len(finished) + len(toys.ran) == 33
    assert "pretrain" not in toys.ran


def test_ctrl_c_while_planning_stops_with_exit_130(tiny, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "load_sweep", interrupted)
    assert sweep.main([tiny()]) == 130
    assert "Run the same command again" in capsys.readouterr().err


def test_selection_runs_its_candidates_and_then_the_sweep_with_the_best(tiny, toys, capsys):
    toys.error_of = lambda config: 0.5 if config["split"] == "test" else 0.1 * (config["seed"] - 99)
    select = {"seeds": [100, 101], "sft": {"epochs": [2, 3]}, "rft": {"max_positives": [1, 2]}}
    file = tiny(select=select)
    assert sweep.main([file, "--plan"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "8 of 8 runs wait for settings" in shown
    assert sweep.main([file]) == 0
    assert toys.ran.count("sft") == 2 * 2 + 2  # candidates by selection seeds, then the choice by the sweep's seeds
    assert toys.ran.count("rft") == 2 * 2 + 2
    capsys.readouterr()
    assert sweep.main([file, "--plan"]) == 0
    shown = capsys.readouterr().out
    assert "wait for settings" not in shown
    assert counts(shown)["to run"] == 0


def test_a_candidate_that_fails_stops_only_the_runs_that_wait_for_it(tiny, toys, capsys):
    select = {"seeds": [100], "sft": {"epochs": [1, 2]}}
    grid = {"algorithm": ["sft"], "data_size": [8, 16]}
    failed: list[str] = []

    def fails_once(kind, config):
        if kind == "sft" and config["sft"]["epochs"] == 2 and not failed:
            failed.append(kind)
            raise RuntimeError("boom")

    toys.before = fails_once
    assert sweep.main([tiny(grid=grid, select=select, seeds=[0])]) == 1
    shown = capsys.readouterr().out
    assert "candidate sft.epochs=2 of algorithm=sft, data_size=" in shown
    assert toys.ran.count("sft") == 5  # four candidates and, for the other size, the run with the chosen one


def test_set_changes_the_sweep_that_runs(tiny, toys, capsys):
    file = tiny()
    assert sweep.main([file, "--set", "grid.data_size=[8,16]", "--set", "seeds=[5]", "--plan"]) == 0
    assert "8 runs over algorithm, data_size and 1 seeds" in capsys.readouterr().out
    assert sweep.main([file, "--set", "grid.algorithm=[sft]", "--set", "analysis.reference=sft"]) == 0
    assert set(toys.ran) == {"pretrain", "problems", "teacher", "sft", "evaluation"}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nowhere.yaml"], "nowhere.yaml does not exist"),
        (["{file}", "--set", "sft.epoch=3"], "unknown key 'sft.epoch'. Did you mean 'sft.epochs'?"),
        (["{file}", "--set", "sft.epochs"], "write it as dotted.key=value"),
        (["{file}", "--set", "grid.data_size=[1000000]"], "data_size is 1000000"),
    ],
)
@pytest.mark.parametrize("mode", [[], ["--plan"], ["--status"]])
def test_a_wrong_sweep_gives_exit_two_and_one_line_before_anything_starts(
    tiny, tmp_path, toys, capsys, arguments, part, mode
):
    file = tiny()
    before = everything_below(tmp_path)
    assert sweep.main([*(argument.format(file=file) for argument in arguments), *mode]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert part in shown.err
    assert shown.err.count("\n") == 1
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("arguments", [[], ["{file}", "--plan", "--status"], ["{file}", "--plam"]])
def test_wrong_usage_gives_exit_two(tiny, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        sweep.main([argument.format(file=tiny()) for argument in arguments])
    assert stopped.value.code == 2
    assert "usage: python -m scaling.sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("amounts", "part"),
    [({"gpu": 1.5}, "train.gpu is 1.5"), ({}, "train asks for nothing")],
)
def test_resources_that_no_worker_can_have_give_exit_two(tiny, tmp_path, capsys, amounts, part):
    assert sweep.main([tiny(resources={"train": amounts})]) == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_a_tiny_sweep_of_real_stages_runs_inline_and_then_has_nothing_to_do(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "_write_report", lambda *arguments: None, raising=False)
    file = tiny(seeds=[0])
    assert sweep.main([file, "--inline"]) == 0
    assert "0 failed" in capsys.readouterr().out
    records = list((tmp_path / "store").glob("evaluation/*/record.json"))
    assert len(records) == 4 + 1  # four algorithms and the base policy
    started = time.monotonic()
    assert sweep.main([file, "--inline"]) == 0
    assert time.monotonic() - started < 10
    shown = capsys.readouterr().out
    assert "start" not in shown and "done" not in shown


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_with_exit_130_and_leaves_no_half_artifact(tiny, tmp_path, stop):
    file = tiny(pretrain={"num_updates": 100_000}, policy={"size": "xxs", "base": "pretrained"})
    command = [sys.executable, "-m", "scaling.sweep", file, "--inline"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if line.startswith("start") and "pretrain/" in line:
                break
        # Once it trains: an import that is interrupted may swallow the exception, or change the exit status.
        deadline = time.monotonic() + 60
        while not list((tmp_path / "store").glob("pretrain/.partial-*/metrics.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.1)
        for _ in range(3):  # jax's garbage collection callback swallows an interrupt that comes in it
            process.send_signal(stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
                break
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "_xla_gc_callback" in errors or "Traceback" not in errors
    assert not [path for path in (tmp_path / "store").glob("pretrain/*") if not path.name.startswith(".")]
    assert not [path for path in (tmp_path / "store/leases").glob("*") if path.name != ".lock"]
