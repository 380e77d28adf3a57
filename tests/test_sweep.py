"""A sweep run by the command line: what it prints, writes and returns, with toy stages and with the real ones."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_sweep import counts

from scaling import sweep

ROOT = Path(__file__).parent.parent


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


def test_an_interrupted_sweep_does_not_wait_for_the_interpreters_end_while_jax_computes():
    """That end has crashed under jax's threads."""
    program = (
        "import atexit, os, signal, sys, types; from scaling import sweep;"
        "atexit.register(os.kill, os.getpid(), signal.SIGSEGV); sys.modules.setdefault('jax', types.ModuleType('jax'));"
        "sweep.main = lambda: print('said') or signal.raise_signal(signal.SIGTERM); sys.exit(sweep._command())"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (143, "said\n"), ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_with_its_exit_status_and_leaves_no_half_artifact(tiny, tmp_path, stop):
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
        deadline = time.monotonic() + 300
        while not list((tmp_path / "store").glob("pretrain/.partial-*/metrics.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.1)
        for _ in range(3):  # jax's garbage collection callback swallows an interrupt that comes in it
            process.send_signal(stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
                break
        _, errors = process.communicate(timeout=3000)
    finally:
        process.kill()
    assert process.returncode == 128 + stop, errors
    assert "_xla_gc_callback" in errors or "Traceback" not in errors
    assert not [path for path in (tmp_path / "store").glob("pretrain/*") if not path.name.startswith(".")]
    assert not [path for path in (tmp_path / "store/leases").glob("*") if path.name != ".lock"]
