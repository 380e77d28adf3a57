"""The ledger: what is written is there again, a torn line costs nothing else, and one process holds it at a time."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.teacher.ledger import Reply, Spent, opened, request_key, spent_in

ROOT = Path(__file__).parent.parent


def reply(key: str, content: str = "text \u00e9 \n two", cost: float | None = 0.5) -> Reply:
    return Reply(key, "gpt", "gpt-4o-2024-08-06", "stop", content, None, 10, 5, False, cost, "http://x/v1", 1.0)


def test_what_is_added_is_there_again_in_this_process_and_the_next(tmp_path):
    with opened(tmp_path / "new", 3) as ledger:
        ledger.add(reply("a"))
        ledger.add(reply("b", cost=None))
        assert ledger.find("a") == reply("a") and ledger.find("c") is None
    with opened(tmp_path / "new", 3) as ledger:
        assert len(ledger) == 2 and ledger.find("b") == reply("b", cost=None)
        assert ledger.spent == Spent(2, 20, 10, 0.5)


def test_seeds_have_files_of_their_own_but_what_is_spent_is_that_of_all(tmp_path):
    assert spent_in(tmp_path / "none") == Spent()
    for seed in (0, 1):
        with opened(tmp_path, seed) as ledger:
            ledger.add(reply("a"))
    with opened(tmp_path, 2) as ledger:
        assert ledger.find("a") is None and ledger.spent == spent_in(tmp_path) == Spent(2, 20, 10, 1.0)


@pytest.mark.parametrize("kept_bytes", [1, 30, 150])
def test_a_line_that_was_cut_off_is_dropped_and_the_others_stay(tmp_path, kept_bytes, caplog):
    with opened(tmp_path, 0) as ledger:
        ledger.add(reply("a"))
        whole = ledger.path.stat().st_size
        ledger.add(reply("b"))
    with ledger.path.open("rb+") as file:
        file.truncate(whole + kept_bytes)
    assert spent_in(tmp_path).requests == 1
    with opened(tmp_path, 0) as ledger:
        assert ledger.find("a") == reply("a") and len(ledger) == 1
        assert f"its {kept_bytes} bytes are dropped" in caplog.text
        ledger.add(reply("c"))
    assert [json.loads(line)["key"] for line in ledger.path.read_text().splitlines()] == ["a", "c"]


def test_a_last_line_that_lacks_its_newline_only_is_kept(tmp_path):
    with opened(tmp_path, 0) as ledger:
        ledger.add(reply("a"))
    ledger.path.write_text(ledger.path.read_text().removesuffix("\n"))
    with opened(tmp_path, 0) as ledger:
        assert ledger.find("a") == reply("a")
        ledger.add(reply("b"))
    assert len(ledger.path.read_text().splitlines()) == 2


def test_a_spoilt_line_in_the_middle_is_an_error_and_nothing_is_lost(tmp_path):
    with opened(tmp_path, 0) as ledger:
        ledger.add(reply("a"))
    ledger.path.write_text("{}\n" + ledger.path.read_text())
    before = ledger.path.read_bytes()
    with pytest.raises(ValueError, match=r"seed-0\.jsonl, line 1 is .*take the line out"), opened(tmp_path, 0):
        pass
    assert ledger.path.read_bytes() == before


def test_a_request_is_known_by_what_it_says_and_what_it_is_for():
    request = {"model": "m", "prompt": "p", "seed": 0, "use": {"attempt": 1, "role": "write"}}
    same = {"use": {"role": "write", "attempt": 1}, "seed": 0, "prompt": "p", "model": "m"}
    assert request_key(request) == request_key(same)
    others = [{**request, key: "other"} for key in request]
    assert len({request_key(each) for each in (request, *others)}) == 5


def test_another_process_waits_for_the_lock_which_ends_with_its_holder(tmp_path):
    code = "import sys; from pathlib import Path; from data.teacher.ledger import opened\n"
    code += "with opened(Path(sys.argv[1]), 1): print('in', flush=True)"
    with opened(tmp_path, 0):
        child = subprocess.Popen(
            [sys.executable, "-c", code, tmp_path],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(1.0)
        assert child.poll() is None
    assert child.communicate(timeout=3000)[0] == "in\n"


def test_fields_of_a_line_are_those_that_docs_name():
    table = (ROOT / "docs" / "teacher.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(Reply):
        assert f"| `{field.name}` |" in table, field.name
