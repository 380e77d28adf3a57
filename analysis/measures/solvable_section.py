"""What a report says of training problems that were filtered: how many were tried, how many the base policy solves.

In: the plan and the table of runs. Out: a section, where a sweep sets `problems.solvable`; else none.
"""

import pandas as pd

from analysis.page.rendering import Section
from scaling.config.text_problems import Solvable, TextProblems
from scaling.planning.plan import Plan

_ORDERS = {"fewest_steps": "those with the fewest steps first", "random": "drawn at random"}


def solvable_section(plan: Plan, runs: pd.DataFrame) -> list[Section]:
    """One section, or none. runs: columns num_candidates and num_solvable where a finished run has been filtered."""
    filters = dict.fromkeys(
        run.cell.problems.solvable for run in plan.runs if isinstance(run.cell.problems, TextProblems)
    )
    if not any(filters):
        return []
    bullets = [_asked(item) for item in filters if item is not None]
    if "num_solvable" in runs:
        found = runs.dropna(subset=["num_solvable"]).drop_duplicates(["panel", "num_candidates", "num_solvable"])
        bullets += [_found(row) for row in found.itertuples()]
    paragraph = (
        "The training problems are those that the base policy solves sometimes, so D counts easy problems. The"
        " validation and test problems are not filtered."
    )
    return [Section("Training problems", (paragraph,), tuple(bullets))]


def _asked(settings: Solvable) -> str:
    return (
        f"Asked for: at least {settings.min_correct} of {settings.samples} completions of the base policy right, at"
        f" temperature {settings.temperature:g}; up to {settings.num_candidates:,} training problems are tried,"
        f" {_ORDERS[settings.order]}."
    )


def _found(row) -> str:
    tried, kept = int(row.num_candidates), int(row.num_solvable)
    where = f"{row.panel}: " if row.panel else ""
    return f"{where}{tried:,} were tried and {kept:,} kept ({100 * kept / tried:.1f} %)."
