"""Every file, figure and section of a report comes out for every study: no arm or twenty, one size, one seed."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from planted_store import fill
from test_tables import write

from analysis.figures import overview
from analysis.figures.style import styled
from analysis.page.parts import Parts
from analysis.page.rendering import write_report
from analysis.page.wording import SWEEP
from analysis.report import main, report
from analysis.reporting import sections as sections_module
from analysis.reporting import study_sections as study_sections_module
from analysis.reporting.conclusions import measurement, opening
from analysis.reporting.study_files import write_study_files
from analysis.reporting.study_sections import main_sections, study_sections
from analysis.tables.outcomes import from_table
from analysis.verdicts.compute import FLOPS
from analysis.verdicts.panel import Question, analysed

LADDER = (8, 16, 32, 1000, 1001, 2**40)
NAMES = ("rft", "dpo, beta=0.1", "step_dpo", "_base", "1", "$x_1$ {y}", "a" * 60, "rft, " + "long_setting=0.001, " * 3)
COSTS = ("none", "equal", "growing", "huge")
ERRORS = ("falling", "rising", "flat", "all wrong", "all right", "noise")


@dataclass(frozen=True)
class Spec:
    """What a study is drawn from."""

    arms: tuple[str, ...] = ()
    has_reference: bool = True
    sizes: tuple[int, ...] = (8,)
    own_sizes: bool = False  # each arm begins one size later
    num_seeds: int = 1
    num_problems: int = 6
    errors: str = "falling"
    missing: float = 0.0  # share of the runs
    base_error: float | None = None
    costs: str = "none"
    claimed: bool = False
    seed: int = 0


def table_of(spec: Spec) -> pd.DataFrame:
    """Outcomes of every run that is there; at least one is."""
    rng = np.random.default_rng(spec.seed)
    rows = []
    for index, name in enumerate((*(("sft",) if spec.has_reference else ()), *spec.arms)):
        for place, size in list(enumerate(spec.sizes))[(index % len(spec.sizes) if spec.own_sizes else 0) :]:
            chance = {
                "falling": 0.8 * 0.75 ** (place + 0.5 * index),
                "rising": 0.2 + 0.1 * place,
                "flat": 0.5,
                "all wrong": 1.0,
                "all right": 0.0,
                "noise": float(rng.random()),
            }[spec.errors]
            for seed in range(spec.num_seeds):
                if rows and rng.random() < spec.missing:
                    continue
                rows += [(name, size, seed, f"p{at}", int(rng.random() < chance)) for at in range(spec.num_problems)]
    return pd.DataFrame(rows, columns=["algorithm", "data_size", "seed", "problem", "wrong"])


def costs_of(table: pd.DataFrame, kind: str) -> Mapping[str, Mapping[tuple[str, int], float]]:
    """FLOPs of a run of every cell."""
    if kind == "none":
        return {}
    cells = table[["algorithm", "data_size"]].drop_duplicates().itertuples(index=False)
    price = {"equal": lambda size: 1e9, "growing": lambda size: 1e6 * size, "huge": lambda size: 1e30 / size}
    return {FLOPS: {(str(name), int(size)): price[kind](size) for name, size in cells}}


specs = st.builds(
    Spec,
    arms=st.one_of(
        st.just(()),
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True).map(tuple),
        st.just(tuple(f"arm_{number}" for number in range(20))),
    ),
    has_reference=st.booleans() | st.just(True),
    sizes=st.lists(st.sampled_from(LADDER), min_size=1, max_size=6, unique=True).map(
        lambda sizes: tuple(sorted(sizes))
    ),
    own_sizes=st.booleans(),
    num_seeds=st.integers(1, 4),
    num_problems=st.sampled_from((1, 2, 30)),
    errors=st.sampled_from(ERRORS),
    missing=st.sampled_from((0.0, 0.0, 0.3, 0.8)),
    base_error=st.sampled_from((None, 0.0, 0.9, 1.0)),
    costs=st.sampled_from(COSTS),
    claimed=st.booleans(),
    seed=st.integers(0, 9),
).filter(lambda spec: spec.has_reference or spec.arms)


@pytest.fixture(autouse=True)
def drawn_small(monkeypatch):
    """Figures are laid out and drawn once, at few dots; three files of each take a second."""

    def save(figure, path):
        with styled():
            figure.set_dpi(30)
            FigureCanvasAgg(figure).print_png(path.with_suffix(".png"))

    monkeypatch.setattr(overview, "save", save)


def written(spec: Spec, folder: Path) -> Parts:
    """What a report does with one panel."""
    table = table_of(spec)
    claims = dict.fromkeys(spec.arms, 2) if spec.claimed else {}
    question = Question("sft", claims, 200, 0)
    panel = analysed(from_table(table), question, spec.base_error, costs_of(table, spec.costs))
    parts = Parts()
    write_study_files(folder, {"": panel}, question, SWEEP, parts)
    found = opening({"": panel}, (measurement("", panel.study),))
    for make in (main_sections, study_sections):
        found += make("", panel, folder, SWEEP, parts)
    write_report(folder, "generated", found)
    return parts


def check(spec: Spec) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts = written(spec, Path(folder))
        assert parts.failed == []
        text = (Path(folder) / "report.md").read_text()
        assert "Test error" in text and "Verdicts" in text
        assert not re.search(r"\b(nan|NaN|None)\b", text)
        assert (Path(folder) / "figures" / "error.png").stat().st_size > 500


common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}


@settings(max_examples=4, **common)
@given(specs)
@example(Spec())
@example(Spec(arms=("rft",), has_reference=False))
def test_every_part_comes_out_for_any_study(spec):
    check(spec)


@pytest.mark.slow
@settings(max_examples=20, **common)
@given(specs)
def test_every_part_comes_out_for_many_studies(spec):
    check(spec)


def test_a_part_that_fails_is_named_and_the_rest_is_written(monkeypatch, tmp_path):
    def broken(*arguments):
        raise ValueError("number sections must be larger than 0")

    monkeypatch.setattr(overview, "draw_errors", broken)
    monkeypatch.setattr(study_sections_module, "_errors", broken)
    parts = written(Spec(arms=("rft",), sizes=(8, 16, 32), num_seeds=3, num_problems=30), tmp_path)
    assert [line.partition(": ")[0] for line in parts.failed] == ["tables.tex", "figures/error.png", "Test error"]
    assert "ValueError: number sections must be larger than 0 (overview.py, line" in parts.failed[1]
    (section,) = parts.section()
    assert section.bullets == tuple(parts.failed)
    text = (tmp_path / "report.md").read_text()
    assert "## Verdicts" in text and "## Test error" not in text
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"multiplier.png", "error.csv"} <= names and "error.png" not in names


def test_a_disk_that_takes_no_file_is_not_an_error_of_a_part():
    with pytest.raises(OSError, match="No space left"), Parts().part("errors.csv"):
        raise OSError(28, "No space left on device")


TWENTY = ", ".join(map(str, range(1, 21)))
GRIDS = {
    "no arm": "grid: {algorithm: [sft], data_size: [64, 128, 256]}\n",
    "one size": "grid: {algorithm: [sft, rft, dpo], data_size: [64]}\n",
    "one cell": "grid: {algorithm: [sft], data_size: [64]}\n",
    "twenty arms": f"grid: {{algorithm: [sft, rft], data_size: [64, 128], rft.max_positives: [{TWENTY}]}}\n",
    "only SFT in a panel": """grid:
  - {algorithm: [sft], data_size: [64, 128, 256], sft.epochs: [1, 2]}
  - {algorithm: [rft], data_size: [64, 128, 256], rounds: [1, 2], sft.epochs: [1]}
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("seeds", ["[0]", "[0, 1, 2]"])
@pytest.mark.parametrize("grid", GRIDS)
def test_every_sweep_has_its_report(grid, seeds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, GRIDS[grid], "analysis: {bootstrap_draws: 200}\n")
    file.write_text(file.read_text().replace("seeds: [0, 1, 2]", f"seeds: {seeds}"))
    fill(file)
    found = report(file, ())
    assert not [sentence for sentence in found.sentences if "Missing in the report" in sentence]
    text = (tmp_path / "results" / "planted" / "report.md").read_text()
    assert "Parts that are missing" not in text and "## Provenance" in text


def test_a_sweep_of_which_all_evaluations_fail_has_no_report_and_no_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, GRIDS["one cell"])
    fill(file, failing="evaluation/")
    assert main([str(file)]) == 1
    assert "has no finished run yet" in capsys.readouterr().err


def test_a_report_with_a_part_that_fails_says_so_in_the_page_and_the_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, GRIDS["one size"])
    fill(file)
    monkeypatch.setattr(sections_module, "_costs", lambda story: {}["no such cost"])
    assert main([str(file)]) == 0
    assert "Missing in the report: Costs: KeyError: 'no such cost' (" in capsys.readouterr().out
    text = (tmp_path / "results" / "planted" / "report.md").read_text()
    assert "## Parts that are missing" in text and "## Provenance" in text and "## Costs" not in text
