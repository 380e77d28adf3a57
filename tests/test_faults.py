"""A short campaign of faults has no violation, and the campaign would notice one."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from toy_stages import RUNNERS, toy

from benchmarks.faults import Reference, Result, contents, table
from scaling.engine.inline import InlinePool
from scaling.engine.progress import Progress
from scaling.engine.run import execute
from scaling.engine.store import Store

ROOT = Path(__file__).parent.parent


def stored(root, *stages):
    store = Store(root)
    execute(stages, store, InlinePool(store, RUNNERS), Progress(Console(file=io.StringIO())))
    return store


def test_two_unbroken_runs_hold_the_same_and_a_flipped_byte_a_lost_and_a_foreign_artifact_show(tmp_path):
    first, second, foreign = toy("first"), toy("second"), toy("foreign")
    reference = Reference(contents(stored(tmp_path / "a", first, second).root), 1.0, 0.0)
    store = stored(tmp_path / "b", first, second)
    assert reference.differences(tmp_path / "b") == []
    (store.find(first) / "text").write_bytes(b"firsu")
    (store.find(second) / "record.json").unlink()
    stored(tmp_path / "b", foreign)
    assert reference.differences(tmp_path / "b") == [
        f"not of the sweep: {foreign.name}",
        f"wrong bytes: {first.name}",
        f"wrong bytes: {second.name}",
    ]


def test_the_table_counts_trials_and_violations_by_kind():
    results = [
        Result("driver: SIGKILL", "driver", (-9, 0), ()),
        Result("driver: SIGKILL", "", (0, 0), ()),
        Result("record: cut", "a/record.json", (0, 0, 0), ("lost: a",)),
    ]
    rows = table(results).splitlines()[2:]
    assert rows[0] == "| driver: SIGKILL | 2, 1 hit nothing | -9 (1), 0 (1) | 0 |"
    assert rows[1] == "| record: cut | 1 | 0 (1) | 1 |"


@pytest.mark.slow
def test_a_short_campaign_has_no_violation():
    command = [sys.executable, "-m", "benchmarks.faults", "--inline", "--faults", "12", "--seed", "1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=3000)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "12 faults, 0 with a violation." in ended.stdout
