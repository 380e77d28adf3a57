"""Folders that commands write into: what they replace, and what they refuse and leave as it was."""

import os
from pathlib import Path

import pandas as pd
import pytest
from toy_sweep import everything_below

from analysis import fit
from scaling import sweep
from scaling.engine.output import MARK, Output, OutputError, mark_of

NAMES = ("table.csv", "figures/*.png")


def output(folder: Path, **more: object) -> Output:
    return Output(folder, "a.command", NAMES, **more)


def write(target: Output, *names: str, digest: str | None = None) -> None:
    with target.writing(digest) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(f"new {name}")


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_is_not_there_or_empty_is_made_and_marked(tmp_path):
    for name in ("new", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        write(output(tmp_path / name), "table.csv", "figures/a.png")
        assert mark_of(tmp_path / name).files == {"a.command": ("figures/a.png", "table.csv")}
        assert contents(tmp_path / name).keys() == {MARK, "table.csv", "figures/a.png"}


def test_the_commands_own_files_are_replaced_and_old_ones_go_while_all_else_stays(tmp_path):
    target = output(tmp_path / "out")
    write(target, "table.csv", "figures/a.png", "figures/b.png")
    (target.folder / "notes.txt").write_text("mine")
    write(Output(target.folder, "other.command", ("page.md",)), "page.md")
    write(target, "table.csv", "figures/b.png")
    assert contents(target.folder).keys() == {MARK, "notes.txt", "page.md", "table.csv", "figures/b.png"}
    write(target, "table.csv")
    assert not (target.folder / "figures").exists()
    assert (target.folder / "notes.txt").read_text() == "mine"


def test_a_failure_while_writing_leaves_what_was_there(tmp_path):
    target = output(tmp_path / "out")
    write(target, "table.csv")
    before = contents(target.folder)
    with pytest.raises(RuntimeError), target.writing() as folder:
        (folder / "table.csv").write_text("half")
        raise RuntimeError("no ink")
    assert contents(target.folder) == before


def fill_unmarked(folder: Path) -> None:
    (folder / "figures").mkdir(parents=True)
    (folder / "figures" / "holiday.png").write_text("dear")


def fill_with_a_foreign_figure(folder: Path) -> None:
    write(output(folder), "table.csv")
    fill_unmarked(folder)


def fill_with_a_file_named_figures(folder: Path) -> None:
    write(output(folder), "table.csv")
    (folder / "figures").write_text("a list of them")


def fill_with_a_link(folder: Path) -> None:
    write(output(folder), "table.csv")
    fill_unmarked(folder.parent / "elsewhere")
    (folder / "figures").symlink_to(folder.parent / "elsewhere" / "figures")


def fill_with_a_foreign_mark(folder: Path) -> None:
    folder.mkdir()
    (folder / MARK).write_text("see the appendix")


@pytest.mark.parametrize(
    "fill",
    [
        fill_unmarked,
        fill_with_a_foreign_figure,
        fill_with_a_file_named_figures,
        fill_with_a_link,
        fill_with_a_foreign_mark,
    ],
)
def test_what_another_wrote_is_refused_with_the_cure_and_left_alone(tmp_path, fill):
    target = output(tmp_path / "out")
    fill(target.folder)
    before = everything_below(tmp_path)
    for refused in (target.check, target.claim, lambda: write(target, "table.csv")):
        with pytest.raises(OutputError, match="--out DIR"):
            refused()
    assert everything_below(tmp_path) == before


def test_a_file_that_the_command_did_not_announce_is_not_replaced_either(tmp_path):
    target = output(tmp_path / "out")
    write(target, "table.csv")
    (target.folder / "surprise.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"surprise\.txt"):
        write(target, "surprise.txt")
    assert (target.folder / "surprise.txt").read_text() == "mine"


def test_the_commands_own_input_is_refused_though_the_command_wrote_it(tmp_path):
    write(output(tmp_path / "out"), "table.csv")
    with pytest.raises(OutputError, match=r"table\.csv, which is read here"):
        output(tmp_path / "out", inputs=(tmp_path / "out" / "table.csv",)).check()


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere"])
def test_a_place_where_no_folder_can_be_is_found_by_the_check(tmp_path, place):
    if place.startswith("/proc") and not Path("/proc/self").exists():
        pytest.skip("this system has no /proc")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--out DIR"):
        output(tmp_path / place).check()


def test_results_of_one_sweep_are_not_replaced_by_another_with_the_same_name(tmp_path):
    first, second = tmp_path / "a" / "main.yaml", tmp_path / "b" / "main.yaml"
    write(output(tmp_path / "results", sweep=first), "table.csv", digest="1234")
    assert mark_of(tmp_path / "results").sweep == "../a/main.yaml"
    assert mark_of(tmp_path / "results").digest == "1234"
    output(tmp_path / "results", sweep=first).check()
    with pytest.raises(OutputError, match=f"{first}.*--out DIR"):
        output(tmp_path / "results", sweep=second).check()
    with pytest.raises(OutputError, match="--out DIR"):
        output(tmp_path / "results").check()


def test_a_project_may_move_with_its_sweeps_and_results(tmp_path):
    write(output(tmp_path / "old" / "results", sweep=tmp_path / "old" / "main.yaml"), "table.csv")
    (tmp_path / "old").rename(tmp_path / "new")
    output(tmp_path / "new" / "results", sweep=tmp_path / "new" / "main.yaml").check()


# The commands


POINTS = pd.DataFrame({"size": [10, 20, 40, 80, 160, 320], "error": [0.5, 0.4, 0.31, 0.25, 0.2, 0.17]})
FIT = ["--x", "size", "--y", "error", "--form", "pow2", "--draws", "200"]


@pytest.fixture
def table(tmp_path):
    POINTS.to_csv(tmp_path / "fit.csv", index=False)
    return tmp_path / "fit.csv"


def test_a_fit_into_the_folder_of_its_own_table_is_refused(table, tmp_path, capsys):
    before = everything_below(tmp_path)
    assert fit.main([str(table), "--out", str(tmp_path), *FIT]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert everything_below(tmp_path) == before


def test_a_fit_never_removes_figures_that_it_did_not_draw(table, tmp_path, monkeypatch, capsys):
    fill_unmarked(tmp_path / "out")
    monkeypatch.setattr(fit, "fit_points", lambda *arguments: pytest.fail("it was fitted first"))
    assert fit.main([str(table), "--out", str(tmp_path / "out"), *FIT]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert (tmp_path / "out" / "figures" / "holiday.png").read_text() == "dear"


def test_a_fit_replaces_its_own_results(table, tmp_path):
    for _ in range(2):
        assert fit.main([str(table), "--out", str(tmp_path / "out"), *FIT]) == 0
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {*mark_of(tmp_path / "out").files["analysis.fit"], MARK}


def test_a_sweep_finds_that_results_are_anothers_before_any_stage_runs(tiny, toys, tmp_path, capsys):
    other = output(tmp_path / "results", sweep=tmp_path / "other" / "tiny.yaml")
    write(other, "table.csv")
    for mode in ([], ["--plan"]):
        assert sweep.main([tiny(), *mode]) == 2
        assert os.fspath(tmp_path / "other" / "tiny.yaml") in capsys.readouterr().err
    assert not toys.ran
    assert sweep.main([tiny(), "--out", str(tmp_path / "elsewhere")]) == 0
    assert toys.ran and mark_of(tmp_path / "elsewhere").sweep == "../tiny.yaml"


def test_a_sweep_finds_that_results_cannot_be_written_before_any_stage_runs(tiny, toys, tmp_path, capsys):
    (tmp_path / "results").write_text("a file")
    assert sweep.main([tiny()]) == 2
    assert "cannot be written into" in capsys.readouterr().err and not toys.ran


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "results" / "shipped").glob(f"*/{MARK}")), ids=str)
def test_the_results_of_the_repository_are_marked_with_their_sweeps_and_all_their_files(path):
    folder, mark = path.parent, mark_of(path.parent)
    assert (folder / mark.sweep).resolve() == folder.parents[2] / "sweeps" / f"{folder.name}.yaml"
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert there - {name for names in mark.files.values() for name in names} <= {MARK}
