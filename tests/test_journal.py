"""Answers that outlive the attempt that asked for them."""

import pytest

from data.sampling.journal import FILE, Journal
from scaling.engine.store import CHECKPOINTS


def test_what_was_added_is_there_again_and_lies_where_a_killed_stage_keeps_its_files(tmp_path):
    first = Journal(tmp_path)
    first.add("r1", {"tokens": [1]})
    first.add_server({"host": "a"})
    first.add_server({"host": "a"})
    again = Journal(tmp_path)  # the first was never closed, as after a kill
    assert again.answers == {"r1": {"tokens": [1]}} and again.servers == [{"host": "a"}]
    assert again.path == tmp_path / CHECKPOINTS / FILE
    for journal in (first, again):
        journal.close()


@pytest.mark.parametrize("kept", range(1, 30, 7))
def test_a_line_cut_short_is_dropped_and_the_next_one_is_whole(tmp_path, kept):
    journal = Journal(tmp_path)
    journal.add("r1", {"tokens": [1]})
    journal.close()
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + whole[:kept])
    again = Journal(tmp_path)
    again.add("r2", {"tokens": [2]})
    again.close()
    last = Journal(tmp_path)
    last.close()
    assert last.answers == {"r1": {"tokens": [1]}, "r2": {"tokens": [2]}}


@pytest.mark.parametrize("broken", [b"[]", b"\xff\xfe", b"{", b"[" * 100_000, b"5", b'{"request": []}'], ids=range(6))
def test_a_broken_line_is_named_and_the_others_count(tmp_path, caplog, broken):
    journal = Journal(tmp_path)
    journal.add("r1", {"tokens": [1]})
    journal.close()
    journal.path.write_bytes(broken + b"\n" + journal.path.read_bytes())
    again = Journal(tmp_path)
    again.close()
    assert again.answers == {"r1": {"tokens": [1]}}
    assert "answers.jsonl, line 1 is no answer of a server; its request is made again" in caplog.text
