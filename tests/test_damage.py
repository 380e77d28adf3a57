"""What is damaged is found when it is read, set aside, and made again: contents, records, leases, failures."""

import io
import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import toy_stages
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from toy_stages import RUNNERS, journal, toy

from scaling import files
from scaling import store as command
from scaling.engine.inline import InlinePool
from scaling.engine.lease import LOCK, STALE_SECONDS, Leases
from scaling.engine.progress import Progress
from scaling.engine.run import execute
from scaling.engine.status import status, why_it_runs
from scaling.engine.store import Store
from scaling.engine.worker import Done, Spoiled, run_stage


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def two_files(tmp_path):
    return store_of_two_files(tmp_path / "whole")


@pytest.fixture(scope="module")
def whole_root(tmp_path_factory):
    """The same, never changed: examples copy it."""
    return store_of_two_files(tmp_path_factory.mktemp("module") / "whole").root


def store_of_two_files(root):
    """A store with one artifact of two files."""
    store = Store(root)
    work_dir = store.work_dir(toy("a"))
    (work_dir / "sub").mkdir()
    (work_dir / "sub" / "text").write_text("hello")
    (work_dir / "rows").write_bytes(bytes(range(64)))
    store.commit(toy("a"), work_dir, {"kind": "toy", "digest": toy("a").digest, "numbers": {"error": 0.25}})
    return store


def sweep_of(stages, store, text=None):
    """What a sweep does: execute until nothing is to be done again."""
    reports = []
    while not reports or (reports[-1].again and len(reports) < 5):
        console = Console(file=text or io.StringIO(), width=300)
        reports.append(execute(stages, store, InlinePool(store, RUNNERS), Progress(console)))
    return reports


def spoil(path):
    """Other contents of the same size."""
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


# Any byte of any file


@given(name=st.sampled_from(["record.json", "rows", "sub/text"]), data=st.data())
def test_any_damage_to_any_file_is_found_or_changes_nothing(whole_root, tmp_path_factory, name, data):
    root = tmp_path_factory.mktemp("copy") / "store"
    shutil.copytree(whole_root, root)
    folder = root / toy("a").name
    path = folder / name
    whole = path.read_bytes()
    how = data.draw(st.sampled_from(["flip", "cut", "zero", "remove", "append"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    if how == "flip":
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :])
    elif how == "remove":
        path.unlink()
    else:
        path.write_bytes({"cut": whole[:at], "zero": bytes(len(whole)), "append": whole + b"\0"}[how])
    fresh = Store(root)
    found = fresh.checked(toy("a"))
    if found is None:
        fresh.quarantine(toy("a"))
        assert not folder.exists() and len(list((root / "quarantine" / "toy").iterdir())) == 1
        return
    # Only a seal that is no longer known for one lets a changed record pass, and then with all that it says.
    assert name == "record.json" and how == "flip"
    record, before = fresh.record(toy("a")), Store(whole_root).record(toy("a"))
    assert {key: record[key] for key in before} == before


def test_a_record_from_before_the_seal_is_believed(two_files):
    path = two_files.root / toy("a").name / "record.json"
    record = json.loads(path.read_text())
    del record["sha256"]
    path.write_text(json.dumps(record, indent=1))
    fresh = Store(two_files.root)
    assert fresh.record(toy("a")) == record and fresh.checked(toy("a")) is not None


def test_a_number_changed_in_a_record_is_a_damage(two_files, caplog):
    path = two_files.root / toy("a").name / "record.json"
    path.write_text(path.read_text().replace('"error": 0.25', '"error": 0.15'))
    assert Store(two_files.root).find(toy("a")) is None
    assert "has a record.json that was changed after its commit" in caplog.text


def test_contents_are_read_once_a_process_until_the_file_changes(two_files, monkeypatch):
    read = []
    real = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", lambda path: read.append(Path(path).name) or real(path))
    fresh = Store(two_files.root)
    fresh.find(toy("a"))
    assert read == []  # --plan reads no contents
    fresh.checked(toy("a"))
    fresh.checked(toy("a"))
    assert sorted(read) == ["rows", "text"]
    rows = Path(fresh.find(toy("a"))) / "rows"
    times = rows.stat().st_atime_ns, rows.stat().st_mtime_ns
    spoil(rows)
    os.utime(rows, ns=times)  # the clock put back: the inode's own time tells
    assert fresh.checked(toy("a")) is None


# Runs


def test_a_damaged_input_is_made_again_within_the_run_and_the_result_is_the_same(store, tmp_path):
    noted = os.fspath(tmp_path / "journal")
    base = toy("base", journal=noted)
    top, other = toy("top", base, journal=noted), toy("other", base, journal=noted)
    end = toy("end", other, journal=noted)
    sweep_of([top], store)
    spoil(Path(store.find(base)) / "text")
    reports = sweep_of([top, end], Store(store.root))
    assert [report.is_complete for report in reports] == [False, True]
    assert set(reports[0].again) == {other, end} and not reports[0].remaining
    assert set(reports[1].done) == {base, other, end}
    assert journal(tmp_path / "journal") == ["base", "top", "base", "other", "end"]
    assert (store.find(end) / "text").read_text() == "endotherbase"


def test_an_input_that_vanished_is_made_again(store):
    base, top = toy("base"), toy("top", toy("base"))
    assert run_stage(top, store, RUNNERS) == Spoiled((base,), damaged=False)
    sweep_of([base], store)
    driver = Store(store.root)
    driver.find(base)
    shutil.rmtree(store.root / base.name)
    assert sweep_of([top], driver)[-1].is_complete


def test_an_input_damaged_as_soon_as_it_is_made_is_a_failure_and_no_endless_loop(store, monkeypatch):
    top = toy("top", toy("base"))
    real = Store.commit

    def commit_on_a_bad_disk(self, stage, work_dir, record):
        committed = real(self, stage, work_dir, record)
        spoil(Path(self.root) / stage.name / "text")
        return committed

    monkeypatch.setattr(Store, "commit", commit_on_a_bad_disk)
    (report,) = sweep_of([top], store)
    assert "was damaged right after it was made; check the disk" in report.failed[0][1]["error"]


def test_an_input_damaged_after_it_was_checked_spoils_no_result(store):
    base, top = toy("base"), toy("top", toy("base"))
    sweep_of([base], store)

    def damaging(config, inputs, out):
        (checkpoints := out / "checkpoints").mkdir()
        (checkpoints / "of damaged input").touch()
        for path in inputs.values():
            spoil(path / "text")
        return toy_stages.write(config, inputs, out)

    fresh = Store(store.root)
    assert run_stage(top, fresh, {"toy": damaging}) == Spoiled((base,), damaged=True)
    assert fresh.find(top) is None and not (fresh.partial(top) / "checkpoints").exists()
    assert sweep_of([top], Store(store.root))[-1].is_complete
    assert (store.find(top) / "text").read_text() == "topbase"


def test_an_artifact_damaged_while_it_is_committed_is_a_failure_that_says_so_and_the_next_run_makes_it(
    store, monkeypatch
):
    rename = Store._rename

    def damaging(self, stage, work_dir, record):
        moved = rename(self, stage, work_dir, record)
        os.truncate(self.root / stage.name / "record.json", 10)
        return moved

    with monkeypatch.context() as patched:
        patched.setattr(Store, "_rename", damaging)
        (report,) = sweep_of([toy("a")], store)
    ((_, failure),) = report.failed
    assert "was damaged right after it was made; check the disk" in failure["error"]
    assert sweep_of([toy("a")], Store(store.root))[-1].is_complete


def test_a_worker_that_does_not_see_the_store_fails_its_stage_and_is_no_endless_loop(store, monkeypatch):
    base, top = toy("base"), toy("top", toy("base"))
    sweep_of([base], store)
    blind = InlinePool(store, RUNNERS)
    monkeypatch.setattr(blind, "wait", lambda handles, seconds: [(stage, Spoiled((base,), False)) for stage in handles])
    report = execute([top], store, blind, Progress(Console(file=io.StringIO())))
    assert "is whole here but not where its worker looked; all nodes must see one store" in report.failed[0][1]["error"]


def test_a_damaged_shipped_artifact_stays_and_is_made_anew_in_the_root(store, tmp_path):
    base, top = toy("base"), toy("top", toy("base"))
    sweep_of([base], Store(tmp_path / "shipped"))
    shipped = tmp_path / "shipped" / base.name / "text"
    spoil(shipped)
    damaged = shipped.read_bytes()
    reports = sweep_of([top], Store(store.root, shipped=tmp_path / "shipped"))
    assert reports[-1].is_complete and (store.find(top) / "text").read_text() == "topbase"
    assert shipped.read_bytes() == damaged and store.find(base).is_relative_to(store.root)


def test_a_report_over_damaged_outcomes_names_them_and_counts_the_run_as_missing(tiny, caplog):
    from planted_store import fill

    from analysis.tables.runs import tabulate
    from scaling.planning.sweep_file import load_sweep

    file = Path(tiny(grid={"algorithm": ["sft"], "data_size": [8, 16]}))
    plan, store = fill(file)
    whole = tabulate(load_sweep(file), plan, Store(store.root))
    victim = plan.runs[0].stage
    spoil(Path(store.find(victim)) / "outcomes.parquet")
    tables = tabulate(load_sweep(file), plan, Store(store.root))
    assert (tables.num_missing, whole.num_missing) == (1, 0)
    assert list(tables.runs["status"]).count("done") == len(plan.runs) - 1
    assert f"{victim.digest} has other contents in outcomes.parquet" in caplog.text and "quarantine" in caplog.text


# The command


def test_verify_finds_every_damaged_artifact_and_sets_it_aside_on_request(store, capsys):
    stages = [toy(str(index)) for index in range(5)]
    sweep_of(stages, store)
    store.fail(toy("x"), "ValueError: no artifact\n", "")
    assert command.main(["verify", os.fspath(store.root)]) == 0
    assert capsys.readouterr().out == "5 artifacts, 0 damaged.\n"
    spoil(Path(store.find(stages[1])) / "text")
    (store.root / stages[3].name / "record.json").unlink()
    assert command.main(["verify", os.fspath(store.root)]) == 1
    out = capsys.readouterr().out
    assert f"{stages[1].digest} has other contents in text" in out and f"{stages[3].digest} has no record.json" in out
    assert "5 artifacts, 2 damaged.\n" in out and "--quarantine" in out
    assert command.main(["verify", os.fspath(store.root), "--quarantine"]) == 1
    assert command.main(["verify", os.fspath(store.root)]) == 0
    assert capsys.readouterr().out.endswith("3 artifacts, 0 damaged.\n")
    assert len(sweep_of(stages, Store(store.root))[-1].done) == 2


def test_verify_takes_a_sweep_and_says_where_there_is_no_store(tiny, tmp_path, capsys):
    assert command.main(["verify", tiny()]) == 2
    assert "does not exist; name the folder of a store" in capsys.readouterr().err
    sweep_of([toy("a")], Store(tmp_path / "store"))
    assert command.main(["verify", tiny()]) == 0


# Leases and failures that are torn, binary, or of another version


class Nested(bytes):
    """So many open brackets; short to show."""

    def __new__(cls, depth):
        return super().__new__(cls, b"[" * depth)

    def __repr__(self):
        return f"Nested({len(self)})"


LEASES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([1, 100_000]).map(Nested),
    st.dictionaries(
        st.sampled_from(["stage", "host", "machine", "pid", "process_start", "since", "token", "version", "time"]),
        st.one_of(st.none(), st.text(max_size=3), st.integers(), st.floats(), st.just(10**400), st.just([])),
    ).map(lambda entries: json.dumps(entries).encode()),
)


@given(LEASES)
def test_a_lease_that_cannot_be_read_is_held_by_somebody_until_it_is_stale(tmp_path_factory, text):
    store = Store(tmp_path_factory.mktemp("store"))
    path = Path(store.root) / "leases" / toy("a").digest
    path.parent.mkdir()
    path.write_bytes(text)
    assert status([toy("a")], store).running[0][0] == toy("a")
    assert status([toy("a")], store).lines()
    with Leases(path.parent) as leases:
        assert not leases.acquire(toy("a")) and leases.holder(toy("a")) is not None
        assert leases.clear_stale() == 0
        os.utime(path, (path.stat().st_mtime - STALE_SECONDS - 1,) * 2)
        assert leases.holder(toy("a")) is None
        assert leases.acquire(toy("a")) and not leases.is_lost(toy("a"))


@pytest.mark.parametrize("pid", [0, -1, 2**31, True, "1"])
def test_a_process_id_that_is_none_is_never_asked_after(tmp_path, pid, monkeypatch):
    monkeypatch.setattr(os, "kill", lambda *arguments: pytest.fail("asked"))
    with Leases(tmp_path) as first, Leases(tmp_path) as second:
        first.acquire(toy("a"))
        path = tmp_path / toy("a").digest
        path.write_text(json.dumps({**json.loads(path.read_text()), "pid": pid}))
        assert not second.acquire(toy("a"))


@given(LEASES)
def test_a_failure_that_cannot_be_read_is_no_failure(tmp_path_factory, text):
    store = Store(tmp_path_factory.mktemp("store"))
    store.fail(toy("a"), "ValueError: x\n", "log")
    (store.root / "failures" / toy("a").name / "failure.json").write_bytes(text)
    assert store.failure(toy("a")) is None
    assert status([toy("a")], store).waiting == (toy("a"),) and why_it_runs(toy("a"), store) == "new"
    assert isinstance(run_stage(toy("a"), store, RUNNERS), Done)


def test_what_killed_drivers_left_is_removed_and_counted(store, tmp_path):
    base = toy("base")
    sweep_of([base], store)
    for name, parts in (("gone", ()), ("resumable", ("checkpoints/7",)), ("empty", ("checkpoints",))):
        work_dir = store.work_dir(toy(name))
        for part in parts:
            (work_dir / part).mkdir(parents=True)
        (work_dir / "half").write_text("half")
        store.leave(toy(name))
    stored = store.work_dir(base)  # of a stage that another driver has committed meanwhile
    (stored / "checkpoints" / "7").mkdir(parents=True)
    store.leave(base)
    held = Store(store.root)
    held.work_dir(toy("held"))
    with Leases(store.root / "leases") as dead:
        dead.acquire(toy("x"))
        path = store.root / "leases" / toy("x").digest
        path.write_text(json.dumps({**json.loads(path.read_text()), "process_start": "long ago"}))
        with (tmp_path / "out").open("w") as text:
            sweep_of([base], Store(store.root), text)
        assert not path.exists()
    assert "Removed 4 leftovers of killed sweeps" in (tmp_path / "out").read_text()
    left = {path.name for path in (store.root / "toy").iterdir() if path.name.startswith(".")}
    assert left == {f".partial-{toy(name).digest}" for name in ("resumable", "held")}
    assert {path.name for path in (store.root / "leases").iterdir()} == {LOCK}
    held.leave(toy("held"))


def test_the_level_of_what_is_said_of_a_damage_is_a_warning(two_files, caplog):
    spoil(Path(two_files.find(toy("a"))) / "rows")
    with caplog.at_level(logging.WARNING):
        assert Store(two_files.root).checked(toy("a")) is None
    assert "has other contents in rows than when it was committed; it is moved to" in caplog.text
