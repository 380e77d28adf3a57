"""What a report opens with: one paragraph of plain sentences from the verdicts, and how they were measured.

In: a `Panel` of finished numbers. Out: text.
"""

from analysis.compute import overall_compute
from analysis.panel import Panel
from analysis.rendering import Grid
from analysis.study import Study
from analysis.verdicts import label, number
from analysis.wording import interval_kind, sample_size

_ONE_NUMBER = ("SUPPORTED", "CONTRADICTED", "NULL")  # verdicts under which one multiplier stands for an algorithm


def conclusion(name: str, panel: Panel) -> str:
    """Every verdict's sentence and its claim's, and the multiplier per FLOP where one number describes it."""
    text = []
    for verdict in panel.study.verdicts:
        text += [verdict.sentence, verdict.claim_sentence or ""]
        per_flop = overall_compute(panel.compute, verdict.algorithm)
        if per_flop is not None and verdict.code in _ONE_NUMBER:
            limits = f"{number(per_flop.low)} to {number(per_flop.high)}"
            text.append(f"Per FLOP of training and generation it is worth {number(per_flop.estimate)}x ({limits}).")
    where = f"[{name}] " if name else ""
    return where + " ".join(part for part in text if part)


def measurement(name: str, study: Study) -> str:
    """n, the kind of interval, the form and how it was chosen."""
    text = f"{sample_size(study.outcomes)}; intervals: 95 %, {interval_kind(study.outcomes)}"
    if study.model is not None:
        text += f"; form: {study.model.constant.form.formula}, chosen by {study.model.selection}"
    where = f"[{name}] " if name else ""
    return f"{where}{text}."


def verdict_table(panel: Panel) -> Grid:
    """Code, claim and multipliers of every algorithm."""
    rows = []
    for verdict in panel.study.verdicts:
        overall = panel.study.overall(verdict.algorithm)
        per_flop = overall_compute(panel.compute, verdict.algorithm)
        shown = [
            "-" if item is None else f"{number(item.estimate)} ({number(item.low)} to {number(item.high)})"
            for item in (overall, per_flop)
        ]
        rows.append((label(verdict.algorithm), verdict.code, verdict.claim or "-", *shown))
    columns = ("algorithm", "verdict", "claim", "multiplier, per problem", "multiplier, per FLOP")
    note = "One multiplier for all sizes from the joint fit, with its 95 % interval; docs/results.md has the verdicts."
    if panel.compute:
        note += (
            f" Per FLOP: times more compute that {label(panel.study.reference)} needs for the same error, a geometric"
            " mean over the algorithm's sizes; training and generation of everything a run needs but the base policy,"
            " synthetic problems free."
        )
        return Grid(columns, tuple(rows), note)
    return Grid(columns[:-1], tuple(row[:-1] for row in rows), note)
