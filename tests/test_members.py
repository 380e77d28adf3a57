"""Two real processes on this machine with jax.distributed: one policy over both, and the results of one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.model.policy import flat, load_policy

TESTS = Path(__file__).parent
PAIRS = [([1, 4, 5], [6, 7, 8, 9, 2], [6, 7, 2]), ([1, 9], [3, 2], [5, 5, 5, 5, 5, 2]), ([1], [8, 2], [9, 2])]
pytestmark = pytest.mark.slow


def start(folder: Path, size: int, *more: str) -> list[int]:
    """Run `size` processes to their end; their exit codes."""
    (folder / "pairs").mkdir(parents=True, exist_ok=True)
    pd.DataFrame(PAIRS, columns=["context", "chosen", "rejected"]).to_parquet(folder / "pairs" / "pairs.parquet")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    path = os.pathsep.join(map(os.fspath, (TESTS.parent, TESTS)))
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    program = os.fspath(TESTS / "member_run.py")
    started = [
        subprocess.Popen(
            [sys.executable, program, address, str(index), str(size), os.fspath(folder), *more], env=environment
        )
        for index in range(size)
    ]
    try:
        return [process.wait(timeout=3000) for process in started]
    finally:
        for process in started:
            process.kill()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What one process made, what two made, and what two made that were killed once and continued."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("one", "two", "killed")}
    assert start(made["one"], 1) == [0]
    assert start(made["two"], 2) == [0, 0]
    assert start(made["killed"], 2, "5") == [9, 9]
    assert (made["killed"] / "reference/0/checkpoints").is_dir()
    assert start(made["killed"], 2) == [0, 0]
    return made


def facts(folder: Path, index: int = 0) -> dict:
    return json.loads((folder / f"{index}.json").read_text())


@pytest.mark.parametrize("name", ["two", "killed"])
def test_two_processes_have_the_losses_tokens_and_policies_of_one(folders, name):
    one = facts(folders["one"])
    for index in (0, 1):
        found = facts(folders[name], index)
        assert found["tokens"] == one["tokens"]
        for stage in ("sft", "dpo"):
            # float32 sums over two processes are of another order
            assert found[stage] == pytest.approx(one[stage], rel=1e-4)
    for stage in ("reference", "dpo"):
        expected = flat(load_policy(folders["one"] / stage / "0").params)
        for key, leaf in flat(load_policy(folders[name] / stage / "0").params).items():
            np.testing.assert_allclose(leaf, expected[key], rtol=0, atol=2e-3, err_msg=key)


def test_each_process_feeds_its_half_of_the_rows(folders):
    assert facts(folders["two"], 0)["share"] == [0, 1, 2, 3]
    assert facts(folders["two"], 1)["share"] == [4, 5, 6, 7]


def test_a_killed_pair_continues_at_its_checkpoint_and_both_use_one(folders):
    lines = (folders["killed"] / "reference/0/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == list(range(1, 9))
    assert (folders["killed"] / "reference/1/checkpoints").is_symlink()
    # The second process wrote no line of the updates before the kill again: it, too, continued in the middle.
    second = (folders["killed"] / "reference/1/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in second] == list(range(1, 9))


def test_a_killed_pair_goes_on_on_other_nodes_from_the_parts_that_each_had_copied(
    folders, s3_store, tmp_path, monkeypatch
):
    monkeypatch.setenv("PLACE", os.fspath(s3_store.root))
    assert start(tmp_path / "one", 2, "5") == [9, 9]
    assert start(tmp_path / "two", 2) == [0, 0]
    for index in (0, 1):
        first, second = ((tmp_path / node / f"reference/{index}/metrics.jsonl").read_text() for node in ("one", "two"))
        assert [json.loads(line)["update"] for line in first.splitlines()] == list(range(1, 6))
        assert second.startswith(first) and second.count("\n") == 8  # came from the bucket
        assert facts(tmp_path / "two", index) == facts(folders["two"], index)
    for stage in ("reference", "dpo"):
        expected = flat(load_policy(folders["two"] / stage / "0").params)
        for key, leaf in flat(load_policy(tmp_path / "two" / stage / "0").params).items():
            np.testing.assert_array_equal(leaf, expected[key], err_msg=key)
