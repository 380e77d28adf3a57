"""results/exact.md says what the tables of its sweeps say, and the figures of both pages exist."""

import re
from pathlib import Path

import pandas as pd
import pytest

from analysis.verdicts.judge import number

RESULTS = Path(__file__).parents[1] / "results"
TEXT = (RESULTS / "exact.md").read_text(encoding="utf-8")
# | [paper_scaling](paper_scaling/report.md) | rft | 1.08 (0.97 to 1.19) | ...
ROW = re.compile(r"^\| \[(\w+)\]\(shipped/\w+/report\.md\) \| (`[^`]+`) \| ([^|]+) \| (\d+) \|", re.M)


def stated() -> list[tuple[str, ...]]:
    return ROW.findall(TEXT)


def test_the_study_states_multipliers():
    assert len(stated()) >= 10


@pytest.mark.parametrize(("sweep", "algorithm", "multiplier", "runs"), stated())
def test_a_stated_multiplier_is_the_one_in_the_tables(sweep, algorithm, multiplier, runs):
    panel, _, name = algorithm.strip("`").rpartition(": ")
    found = of_arm(pd.read_csv(RESULTS / "shipped" / sweep / "multipliers.csv", keep_default_na=False), panel, name)
    (row,) = found[found["kind"] == "mean"].to_dict("records")
    estimate, low, high = (number(float(row[column])) for column in ("estimate", "low", "high"))
    assert multiplier == f"{estimate} ({low} to {high})"
    done = of_arm(pd.read_csv(RESULTS / "shipped" / sweep / "runs.csv", keep_default_na=False), panel, name)
    assert int(runs) == (done["status"] == "done").sum()


def of_arm(table: pd.DataFrame, panel: str, algorithm: str) -> pd.DataFrame:
    return table[(table["panel"] == panel) & (table["algorithm"] == algorithm)]


@pytest.mark.parametrize(("page", "figures"), [("README.md", 1), ("exact.md", 3)])
def test_every_link_and_figure_exists(page, figures):
    targets = re.findall(r"\]\(([^)#]+)\)", (RESULTS / page).read_text(encoding="utf-8"))
    assert sum(target.endswith(".png") for target in targets) >= figures
    for target in targets:
        assert target.startswith("http") or (RESULTS / target).exists(), target
