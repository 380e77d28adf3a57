"""One multiplier everywhere: table, terminal, legend, sentence, files and planner state the same headline."""

import io
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from planted import SIZES, planted, power_law
from rich.console import Console

from analysis import report
from analysis.api import fit_table
from analysis.figures.overview import multiplier_figure, multiplier_table
from analysis.multipliers.model import why_no_curve
from analysis.page.wording import TABLE
from analysis.planner.assumptions import stated_multipliers
from analysis.planner.expected import allowed
from analysis.reporting.conclusions import conclusions, verdict_table
from analysis.reporting.fits_file import dump, fits_document
from analysis.tables.outcomes import from_table
from analysis.tables.printing import Printing, label, printing, short
from analysis.verdicts.headline import Point, number
from analysis.verdicts.panel import Question

LONG = (*SIZES, 2048, 4096)


def falling(size):
    return power_law(size * (size / 64) ** -0.6)


def turning(size):
    return power_law(size) if size < 500 else 0.75


def beyond(size):
    return 0.97 - 0.01 * np.log2(size / 64)


STUDIES = {  # multipliers, sizes, curves of single algorithms, noise of runs
    "constant": ({"sft": 1.0, "rft": 2.0, "dpo": 1.0}, LONG, {}, 0.05),
    "noisy": ({"sft": 1.0, "rft": 1.5, "dpo": 1.0}, SIZES, {}, 0.4),
    "varying": ({"sft": 1.0, "rft": 4.0}, LONG, {"rft": falling}, 0.05),
    "inverse": ({"sft": 1.0, "rft": 1.0}, SIZES, {"rft": turning}, 0.05),
    "bounds": ({"sft": 1.0, "rft": 30.0, "dpo": 1.0}, SIZES, {"dpo": beyond}, 0.05),
    "two sizes": ({"sft": 1.0, "rft": 2.0}, SIZES, {"rft": None}, 0.05),
}
CODES = {
    "constant": {"DETERMINED", "NOT_RESOLVED"},
    "varying": {"VARIES"},
    "inverse": {"INVERSE"},
    "bounds": {"LOWER_BOUND", "UPPER_BOUND"},
    "two sizes": {"AT_SIZES"},
}


def table_of(name: str) -> pd.DataFrame:
    multipliers, sizes, curves, run_sd = STUDIES[name]
    parts = []
    for place, (algorithm, m) in enumerate(multipliers.items()):
        own = SIZES[:2] if algorithm in curves and curves[algorithm] is None else sizes
        curve = curves.get(algorithm) or power_law
        parts.append(
            planted({algorithm: m}, own, num_seeds=4, num_problems=400, run_sd=run_sd, curve=curve, seed=place)
        )
    return pd.concat(parts, ignore_index=True)


def numbers_in(text: str) -> list[str]:
    return re.findall(r"\d[\d,]*\.?\d*", text)


@pytest.mark.parametrize("name", STUDIES)
def test_table_terminal_legend_sentence_files_and_planner_state_the_same(name, tmp_path):
    results = fit_table(table_of(name), "sft", {"rft": 2}, draws=200)
    panel = results._source.study
    study = panel.study
    if name in CODES:
        assert {verdict.code for verdict in study.verdicts} == CODES[name]
    terminal = results.table().iloc[:, -1]
    rows = {row[0]: row for row in verdict_table(panel).rows}
    legend = [text.get_text() for text in multiplier_figure(study, TABLE).legends[0].get_texts()]
    of_notebook = results.verdicts.set_index("algorithm")
    overall = multiplier_table(study).query("kind == 'overall'").set_index("algorithm")
    document = dump(fits_document({"": panel}, Question("sft", {"rft": 2}, 200, 0), TABLE))
    (tmp_path / "fits.json").write_text(document)
    planned = stated_multipliers(tmp_path, "")
    opened = " ".join(conclusions(panel))
    for verdict in study.verdicts:
        given, algorithm = verdict.headline, verdict.algorithm
        assert given is not None
        shown = label(algorithm)
        assert terminal[shown] == rows[shown][2] == given.text
        assert f"{short(algorithm)}: {given.text}" in [" ".join(text.split()) for text in legend]
        assert verdict.sentence in opened
        said = numbers_in(verdict.sentence)
        for point in given.points:
            for m in (point.estimate, point.low, point.high):
                assert not 0 < m < np.inf or number(m) in said, (verdict.sentence, given.text)
        low, high = allowed(verdict)
        if verdict.code != "INVERSE":
            assert (of_notebook.loc[algorithm, "low"], of_notebook.loc[algorithm, "high"]) == (low, high)
        (stored,) = [item for item in json.loads(document)["panels"][""]["verdicts"] if item["algorithm"] == algorithm]
        assert stored["headline_text"] == given.text
        assert (algorithm in overall.index) == (given.kind == "one number")
        first = given.points[0]
        if given.kind == "one number":
            row = overall.loc[algorithm]
            assert (row["estimate"], row["low"], row["high"]) == (first.estimate, first.low, first.high)
            assert planned[algorithm] == first.estimate
        elif given.kind == "sizes":
            if all(0 < point.estimate < np.inf for point in given.points):
                assert planned[algorithm] == tuple((point.data_size, point.estimate) for point in given.points)
        else:
            assert planned[algorithm] == (first.low if given.kind == "lower bound" else first.high)


@pytest.mark.parametrize(
    ("point", "said"),
    [
        (Point(16, math.inf, 0.0, math.inf), "above the reference's range (without limits) at D = 16"),
        (Point(16, 0.0, 0.0, math.inf), "below the reference's range (without limits) at D = 16"),
        (Point(16, math.inf, 1.5, math.inf), "at least 1.50 at D = 16"),
        (Point(None, 0.0, 0.0, 0.5), "at most 0.50"),
    ],
)
def test_what_lies_beyond_the_reference_is_a_bound_only_if_something_bounds_it(point, said):
    assert point.text == said


def test_a_reason_has_the_name_that_tables_have():
    outcomes = from_table(planted({"sft": 1.0}, SIZES[:2], num_problems=50))
    with printing(Printing({"sft": "plain"})):
        why = why_no_curve(outcomes, "sft", np.ones(2, bool))
    assert why is not None and why.startswith("plain has 2 data sizes, and the smallest form needs")


def test_the_terminal_cuts_no_name_and_heads_each_panel_by_its_own():
    study = fit_table(table_of("constant"), "sft", {}, draws=200)._source.study.study
    panels = ["problems.flaw_rate=0.0, checkpoint.keep=last", "problems.flaw_rate=0.5, checkpoint.keep=last"]
    console = Console(width=80, file=io.StringIO())
    console.print(report._summary_tables(dict.fromkeys(panels, study)))
    shown = console.file.getvalue()
    assert "\u2026" not in shown
    assert all(shown.count(panel) == 1 for panel in panels)
    assert shown.count(label("rft")) == 2
