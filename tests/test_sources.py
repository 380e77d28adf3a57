"""Sources: the digest of a module with its imports changes with what it computes by, and with nothing else."""

import shutil
import textwrap
from pathlib import Path

import pytest

from scaling import sources
from scaling.engine import changed as changes
from scaling.engine.changed import accept, changed, with_descendants
from scaling.engine.provenance import PROJECT
from scaling.engine.store import Store
from scaling.engine.worker import PACKAGES, run_stage, sources_of
from scaling.kinds import BUILT_IN, kind_of
from scaling.sources import closure, parse, sources_digest
from scaling.stage import Stage

BEFORE = '''
"""A module."""
import os
# a comment
def area(width, height=2):
    """Of a rectangle."""
    return width * height
class Box:
    """A box."""
    side: int = 3
    """Its side."""
'''
SAME = {
    "comments": BEFORE.replace("# a comment", "# another\n\n"),
    "docstrings": BEFORE.replace("Of a rectangle.", "The area.").replace('    """Its side."""\n', ""),
    "layout": BEFORE.replace("width * height", "(\n        width  *  height\n    )").replace("\ndef", "\n\n\ndef"),
}
OTHER = {
    "an operator": BEFORE.replace("width * height", "width + height"),
    "a default": BEFORE.replace("height=2", "height=3"),
    "a name": BEFORE.replace("area", "surface"),
    "a constant's type": BEFORE.replace("= 3", "= 3.0"),
    "an import": BEFORE.replace("import os", "import sys"),
}


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    """Nothing is read from or written to the home."""
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")
    for function in (sources._kept, sources._source, sources._file_of, sources_digest):
        function.cache_clear()
    yield tmp_path / "cache"
    for function in (sources._kept, sources._source, sources._file_of, sources_digest):
        function.cache_clear()


@pytest.mark.parametrize("text", SAME.values(), ids=SAME.keys())
def test_comments_docstrings_and_layout_are_no_part_of_it(text):
    assert text != BEFORE and parse(text).digest == parse(BEFORE).digest


@pytest.mark.parametrize("text", OTHER.values(), ids=OTHER.keys())
def test_what_computes_is_part_of_it(text):
    assert parse(text).digest != parse(BEFORE).digest


def test_the_digest_is_the_same_in_every_version_of_python():
    assert parse(textwrap.dedent("def f(x):\n    return f'{x:>{3}}' + 'a' 'b'\n")).digest == "f919c7c7ee47a529"


def test_an_empty_text_is_something_but_for_the_end_of_an_f_string():
    assert parse('x = [""]').digest != parse("x = []").digest
    assert parse('f("")').digest != parse("f()").digest


def _write(folder, **files):
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_users_module_is_followed_through_its_local_imports(tmp_path):
    _write(
        tmp_path,
        mine="import json, near\ndef run():\n    from pack.inner import thing\n",
        near="X = 1\n",
        far="Y = 1\n",
        pack__inner="from . import sibling\nfrom .deep import other\n",
        pack__sibling="from far import Y\n",
        pack__deep__other="Z = 1\n",
        unrelated="W = 1\n",
    )
    (tmp_path / "pack" / "__init__.py").write_text("")
    found = closure("mine", tmp_path)
    assert set(found) == {"mine", "near", "far", "pack", "pack.inner", "pack.sibling", "pack.deep.other"}
    assert set(closure("mine", tmp_path, ("mine", "pack"))) == set(found) - {"near", "far"}
    assert sources_digest("absent", tmp_path) is None
    digests = set()
    for number, name in enumerate(["", *found, "unrelated"]):
        copy = tmp_path / "copies" / str(number)
        shutil.copytree(tmp_path, copy, ignore=shutil.ignore_patterns("copies", "cache"))
        if name:
            path = (copy / name.replace(".", "/")).with_suffix(".py")
            path = path if path.exists() else copy / name / "__init__.py"
            path.write_text(path.read_text() + "\nADDED = 1\n")
        digests.add(sources_digest("mine", copy))
    assert len(digests) == 1 + len(found)  # each file of the closure changes it, where it lies does not


def test_every_kind_has_sources_that_hold_what_it_runs_and_none_of_the_engine():
    for kind, record in BUILT_IN.items():
        runner = str(record.run)
        found = closure(runner.partition(":")[0], PROJECT, PACKAGES)
        assert runner.partition(":")[0] in found and sources_of(Stage(kind, {}))
        assert not any(name.startswith("scaling.engine.") for name in found), kind
    assert "scaling.training.update" in closure("algorithms.dpo", PROJECT, PACKAGES)


def test_what_was_parsed_is_not_parsed_again_by_the_next_process(monkeypatch, cache_folder):
    first = sources_of(Stage("dpo", {}))
    for function in (sources._kept, sources._source, sources._file_of, sources_digest):
        function.cache_clear()
    monkeypatch.setattr(sources, "parse", lambda text: pytest.fail("parsed"))
    assert sources_of(Stage("dpo", {})) == first
    (kept,) = cache_folder.iterdir()
    kept.write_text("[torn")
    for function in (sources._kept, sources._source, sources._file_of, sources_digest):
        function.cache_clear()
    monkeypatch.undo()
    monkeypatch.setattr(sources, "CACHE", Path("/proc/nowhere"))  # a home that takes nothing
    assert sources_of(Stage("dpo", {})) == first


# In records


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A store with a teacher's stage and one after it, as the worker records them, with runners of no work."""
    store = Store(tmp_path / "store")
    first = Stage("problems", {"seed": 0})
    second = Stage("sft", {"seed": 0}, {"problems": first})
    monkeypatch.setattr("scaling.engine.worker._runner", lambda stage, runners: lambda config, inputs, out: {})
    for stage in (first, second):
        run_stage(stage, store)
    return store, first, second


def test_a_record_holds_the_digest_and_a_changed_one_is_told_until_it_is_accepted(stored):
    store, first, second = stored
    assert store.record(second)["sources"] == sources_of(second)
    assert changed([first, second], store) == []
    today = {first: sources_of(first), second: "other"}
    (found,) = changed([first, second], store, today.get)
    assert found.stages == (second,) and found.line == (
        "sft: 1 stored stage was computed by different sources than today's, under the same version"
        f" {kind_of('sft').version}. --rerun sft runs them again, --accept keeps them as they are."
    )
    accept([found], store)
    assert changed([first, second], Store(store.root), today.get) == []
    (again,) = changed([first, second], Store(store.root), {second: "yet another"}.get)  # the next change is told again
    accept([again], store)
    assert changed([second], store, today.get) == []


def test_records_from_before_say_nothing_and_neither_does_a_torn_list(stored, monkeypatch):
    store, _, second = stored
    (store.root / changes.ACCEPTED).write_bytes(b'[["sft"')
    assert changed([second], store, lambda stage: "other") != []
    record = {key: value for key, value in store.record(second).items() if key != "sources"}
    monkeypatch.setattr(store, "record", lambda stage: record)
    assert changed([second], store, lambda stage: "other") == []


def test_a_rerun_takes_a_kind_and_all_that_descends_from_it(stored):
    store, first, second = stored
    other = Stage("teacher", {"seed": 1})
    assert with_descendants([first, second, other], ["problems"]) == [first, second]
    assert with_descendants([first, second, other], ["sft"]) == [second]
    store.distrust(second)
    assert store.find(second) is None and Store(store.root).find(second) is not None
    fresh = Store(store.root)
    assert fresh.retire(second) and not fresh.retire(second)
    assert Store(store.root).find(second) is None and Store(store.root).find(first) is not None
    assert len(list((Path(store.root) / "quarantine" / "sft").iterdir())) == 1
    run_stage(second, fresh)
    assert fresh.find(second) is not None


# On the command line


def test_plan_and_status_say_what_changed_and_accept_and_rerun_settle_it(tiny, toys, monkeypatch, capsys):
    from scaling import sweep

    file = tiny(grid={"algorithm": ["sft"], "data_size": [8]}, seeds=[0])
    now = {"digest": "before"}
    monkeypatch.setattr("scaling.engine.worker.sources_of", lambda stage: now["digest"])
    monkeypatch.setattr(
        sweep,
        "changed",
        lambda stages, store: changed(stages, store, lambda stage: now["digest"] if stage.kind == "sft" else None),
    )
    assert sweep.main([file]) == 0
    for option in ("--plan", "--status"):
        assert sweep.main([file, option]) == 0
        assert "other sources" not in capsys.readouterr().out
    now["digest"] = "after"
    for option in ("--plan", "--status"):
        assert sweep.main([file, option]) == 0
        assert capsys.readouterr().out.count("sft: 1 stored stage was computed by different sources than today's") == 1
    toys.ran.clear()
    assert sweep.main([file, "--plan", "--rerun", "sft"]) == 0
    assert "2 to run" in capsys.readouterr().out  # the SFT and its evaluation
    assert sweep.main([file, "--accept"]) == 0 and toys.ran == []
    assert "sft: 1 stored stages are taken as they are" in capsys.readouterr().out
    assert sweep.main([file, "--plan"]) == 0
    assert "other sources" not in capsys.readouterr().out
    assert sweep.main([file, "--rerun", "sft"]) == 0
    assert toys.ran == ["sft", "evaluation"] and "2 stored stages run again" in capsys.readouterr().out
