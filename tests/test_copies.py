"""Copies in a bucket: only whole ones are read, whatever is killed, whoever else copies there at the same time."""

import random
from contextlib import suppress

import pytest

from data.sampling.journal import Journal
from scaling.copies import Copies, LineCopies, copying_to, current_place


class Killed(BaseException):
    """What a kill looks like from inside."""


def folder_at(tmp_path, progress, name="node"):
    """A folder as training has it at some progress, and the names of its files."""
    folder = tmp_path / name
    snapshots = [f"snapshots/{update}" for update in range(10, progress + 1, 10)]
    names = [f"{progress}/state", f"{progress}/deep/er", *snapshots]
    for file in names:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(f"{file} of this stage")
    return folder, names


def send(copies, tmp_path, progress, layout=""):
    copies.send(progress, layout, *folder_at(tmp_path, progress))
    copies.wait()


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_a_copy_comes_back_as_it_was_and_those_before_it_are_removed(memory_bucket, tmp_path):
    place, files = memory_bucket
    first = Copies(place, 1)
    for progress in (10, 20):
        send(first, tmp_path, progress)
    assert first.whole() == [(20, 1)]
    assert not any("/10/" in name for name in files.find(str(place)))
    folder = tmp_path / "other"
    (folder / "7").mkdir(parents=True)
    assert Copies(place, 2).fetch((20, 1), "", folder)
    expected, _ = folder_at(tmp_path, 20, "expected")
    assert contents(folder) == contents(expected)
    first.close()


def test_files_that_stay_are_sent_once_also_by_the_node_that_goes_on(memory_bucket, tmp_path, monkeypatch):
    place, files = memory_bucket
    sent = []
    put = files.put
    monkeypatch.setattr(files, "put", lambda local, remote: sent.extend(local) or put(local, remote))
    first, second = Copies(place, 1), Copies(place, 2)
    send(first, tmp_path, 10)
    assert second.fetch((10, 1), "", tmp_path / "node")
    send(second, tmp_path, 20)
    assert second.whole() == [(20, 2)]
    assert [path.partition("node/")[2] for path in sent] == [
        "10/state", "10/deep/er", "snapshots/10", "20/state", "20/deep/er", "snapshots/20",
    ]  # fmt: skip


@pytest.mark.parametrize("survive", range(5))
def test_a_copy_that_a_kill_cut_off_does_not_count(memory_bucket, tmp_path, monkeypatch, survive):
    place, files = memory_bucket
    first = Copies(place, 1)
    send(first, tmp_path, 10)
    put = files.put_file
    left = iter([True] * survive)

    def dies(*what, **how):
        if not next(left, False):
            raise Killed
        return put(*what, **how)

    monkeypatch.setattr(files, "put_file", dies)
    monkeypatch.setattr(files, "pipe_file", dies)
    first.send(20, "", *folder_at(tmp_path, 20))
    first.wait()
    monkeypatch.undo()
    monkeypatch.setattr("scaling.copies.file_system", lambda place: files)
    next_node = Copies(place, 2)
    assert next_node.whole() == [(10, 1)]
    assert next_node.fetch((10, 1), "", tmp_path / "next")
    assert contents(tmp_path / "next")["10/state"] == "10/state of this stage"
    send(next_node, tmp_path, 30)
    assert next_node.whole() == [(30, 2)]
    assert not any("/10/" in name for name in files.find(str(place)))


def test_a_failed_copy_is_a_warning_and_the_next_one_counts(memory_bucket, tmp_path, monkeypatch, caplog):
    place, files = memory_bucket
    copies = Copies(place, 1)
    with monkeypatch.context() as patch:
        patch.setattr(files, "pipe_file", lambda *_: (_ for _ in ()).throw(OSError("the network is down")))
        send(copies, tmp_path, 10)
    assert "failed: the network is down. The next one is tried." in caplog.text and copies.whole() == []
    send(copies, tmp_path, 20)
    assert copies.whole() == [(20, 1)]


def test_a_copy_of_a_group_counts_when_all_parts_are_there_and_fits_such_groups_only(memory_bucket, tmp_path):
    place, files = memory_bucket
    group = [Copies(place, 1, index, 2) for index in range(2)]
    for progress in (10, 20):
        for index, copies in enumerate(group):
            before = copies.whole()
            send(copies, tmp_path, progress, layout=f"half {index}")
            assert copies.whole() == (before if index == 0 else [(progress, 1)])
    assert not any("/10/" in name for name in files.find(str(place)))
    assert Copies(place, 2).whole() == Copies(place, 2, 0, 4).whole() == []
    again = [Copies(place, 2, index, 2) for index in range(2)]
    assert again[1].fetch((20, 1), "half 1", tmp_path / "fits")
    assert not again[1].fetch((20, 1), "half 0", tmp_path / "not") and not (tmp_path / "not").exists()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_of_nodes_that_copy_at_once_none_reads_what_is_torn(memory_bucket, tmp_path, seed, shared):
    """Before any call to the bucket another node may make a whole copy, or die in the middle of one."""
    place, files = memory_bucket
    chance, progress, reached, busy = random.Random(seed), 0, 0, []

    class Interrupted:
        def __getattr__(self, name):
            real = getattr(files, name)
            if name not in ("put", "put_file", "pipe_file", "find", "rm", "cat_file"):
                return real

            def call(*what, **how):
                free = [copies for copies in nodes if copies not in busy]
                if free and chance.random() < 0.2:
                    copy(chance.choice(free))
                elif chance.random() < 0.02:
                    raise Killed
                return real(*what, **how)

            return call

    nodes = [Copies(place, number) for number in range(3)]
    for copies in nodes:
        copies._files = Interrupted()

    def copy(copies):
        nonlocal progress, reached
        progress += chance.choice((-2, 1, 2, 4))
        folder, names = folder_at(tmp_path, max(progress, 1))
        busy.append(copies)
        with suppress(Killed, FileNotFoundError):
            copies._send(max(progress, 1), "", folder, names if shared else names[:2])
            reached = max(reached, progress)
        busy.remove(copies)

    reader = Copies(place, 9)
    for _ in range(30):
        copy(chance.choice(nodes))
        whole = reader.whole()
        assert whole or shared or not reached  # copies may lose files that they share; the next one counts
        if whole:
            assert reader.fetch(whole[-1], "", tmp_path / "read")
            found, step = contents(tmp_path / "read"), whole[-1][0]
            assert {f"{step}/state", f"{step}/deep/er"} <= set(found)
            assert all(text == f"{name} of this stage" for name, text in found.items())
    assert reached > 20
    send(Copies(place, 10), tmp_path, progress + 50)
    assert reader.whole()[-1] == (progress + 50, 10)


def test_a_place_is_in_force_inside_its_context_only(memory_bucket):
    place, _ = memory_bucket
    assert current_place() is None
    with copying_to(place):
        assert current_place() == place
    assert current_place() is None


# Answers of a server


def test_answers_come_back_on_another_node(memory_bucket, tmp_path, monkeypatch):
    place, files = memory_bucket
    with copying_to(place):
        first = Journal(tmp_path / "one")
        first.add_server({"host": "a"})
        first.add("r1", {"tokens": [1]})
        monkeypatch.setattr("data.sampling.journal.COPY_SECONDS", 0.0)
        first.add("r2", {"tokens": [2]})
        monkeypatch.undo()
        monkeypatch.setattr("scaling.copies.file_system", lambda place: files)
        first.add("r3", {"tokens": [3]})  # less than a minute before the kill
        second = Journal(tmp_path / "two")
        assert second.answers == {"r1": {"tokens": [1]}, "r2": {"tokens": [2]}} and second.servers == [{"host": "a"}]
        second.add("r4", {"tokens": [4]})
        second.close()
        again = Journal(tmp_path / "two")  # what is on the node is not fetched again
        third = Journal(tmp_path / "three")
        assert again.answers == third.answers and set(third.answers) == {"r1", "r2", "r4"}
        again.close()
        third.close()
        assert LineCopies(place / "answers.jsonl").fetch().count(b"\n") == 4
    first.close()


def test_answers_are_copied_nowhere_without_a_bucket(memory_bucket, tmp_path):
    place, files = memory_bucket
    journal = Journal(tmp_path)
    journal.add("r1", {"tokens": [1]})
    journal.close()
    assert not files.find(str(place))
