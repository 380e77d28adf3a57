"""The opening of a report: the verdicts in plain sentences, and how they were measured; in a terminal, as a table.

In: `Panel`s of finished numbers. Out: text, `Section`s, and the summary table of the terminal and of notebooks.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from analysis.multipliers.contrasts import Adjusted
from analysis.page.rendering import Section, TextTable
from analysis.page.wording import interval_kind, sample_size
from analysis.tables.printing import label
from analysis.verdicts.compute import overall_compute
from analysis.verdicts.evidence import MEANINGS, REJECTED
from analysis.verdicts.headline import number
from analysis.verdicts.judge import Verdict, listed
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import Study

NOISY = 1.5  # a report warns if run noise exceeds luck by this factor
MULTIPLIER = "multiplier (95 % limits)"


def opening(panels: Mapping[str, Panel], paragraphs: tuple[str, ...]) -> list[Section]:
    """A bullet for each finding of all panels, and the paragraphs below them."""
    bullets = tuple(where(name) + item for name, panel in panels.items() for item in conclusions(panel))
    return [*([Section("", bullets=bullets)] if bullets else []), Section("", paragraphs)]


def conclusions(panel: Panel) -> tuple[str, ...]:
    """The sentences of every verdict and its claim, and the multiplier per FLOP where it is resolved."""
    items = list(_not_estimable(panel.study.verdicts))
    tests = {item.algorithm: item for item in panel.study.adjusted}
    for verdict in panel.study.verdicts:
        if verdict.code == "NOT_ESTIMABLE":
            continue
        text = [verdict.sentence, _alone(verdict, tests), verdict.claim_sentence or ""]
        per_flop = overall_compute(panel.compute, verdict.algorithm)
        if per_flop is not None and verdict.code != "NOT_RESOLVED":
            limits = f"{number(per_flop.low)} to {number(per_flop.high)}"
            text.append(f"At D = {per_flop.data_size:,} it is worth {number(per_flop.estimate)}x ({limits})")
            text.append("per FLOP of training and generation.")
        items.append(" ".join(part for part in text if part))
    return tuple(items)


def _alone(verdict: Verdict, tests: Mapping[str, Adjusted]) -> str:
    """A warning if a verdict may be due to chance, given the number of algorithms."""
    if verdict.code not in ("DETERMINED", "VARIES") or len(tests) < 2:
        return ""
    test = tests[verdict.algorithm]
    p = test.p_holm if verdict.code == "DETERMINED" else test.slope_p_holm
    if p < REJECTED:
        return ""
    return (
        f"This holds for the algorithm on its own: adjusted for {len(tests)} algorithms (Holm) it may be chance, p ="
        f" {p:.2f}."
    )


def _not_estimable(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """One item for all algorithms that lack a multiplier for the same reason."""
    of_reason: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.code == "NOT_ESTIMABLE":
            of_reason.setdefault(verdict.sentence.removeprefix(label(verdict.algorithm)), []).append(verdict)
    for reason, alike in of_reason.items():
        who = listed([label(verdict.algorithm) for verdict in alike])
        claims = [f"{verdict.claim} for {label(verdict.algorithm)}" for verdict in alike if verdict.claim]
        untested = f" Not tested: the claim{'s' * (len(claims) > 1)} of {', '.join(claims)}." if claims else ""
        yield f"{who}{reason}{untested}"


def measurement(name: str, study: Study) -> str:
    """n, the kind of interval, the forms, and how noisy runs are."""
    text = f"{where(name)}{sample_size(study.outcomes)}; intervals: 95 %, {interval_kind(study.outcomes)}"
    if study.models:
        forms = ", ".join(dict.fromkeys(model.constant.form.formula for model in study.models.values()))
        text += f"; forms, chosen for each algorithm: {forms}"
    noise = math.nan if study.draws is None else study.noise_over_luck
    if not math.isnan(noise):
        text += f"; run noise over luck: {noise:.2f}"
    if noise > NOISY:
        text += (
            f". Warning: runs differ {noise:.1f} times as much as luck with the test problems explains, so more seeds"
            " narrow the intervals and more test problems hardly do"
        )
    return f"{text}."


def where(name: str) -> str:
    """A panel's name, as the start of a sentence."""
    return f"[{name}] " if name else ""


def summary(
    errors: pd.DataFrame, headlines: Mapping[str, str | None], reference: str, sizes: Sequence[int]
) -> pd.DataFrame:
    """One row per algorithm of one panel, with the mean test error in percent for each size.

    errors: as errors.csv has them. headlines: algorithm -> its verdict's multiplier; None if it cannot be
    estimated. "-" marks what was not measured.
    """
    cells = zip(errors["algorithm"], errors["data_size"], errors["error"].tolist(), strict=True)
    shown = {(name, size): f"{100 * error:.1f}" for name, size, error in cells}
    names = list(dict.fromkeys(errors["algorithm"]))
    table = {f"D={size}": [shown.get((name, size), "-") for name in names] for size in sizes}
    table[MULTIPLIER] = ["reference" if name == reference else (headlines.get(name) or "-") for name in names]
    return pd.DataFrame(table, index=pd.Index([label(name) for name in names], name="algorithm"))


def verdict_table(panel: Panel) -> TextTable:
    """For every algorithm: whether m is determined, m itself and, apart from that, whether the claim is met."""
    rows = []
    for verdict in panel.study.verdicts:
        per_flop = overall_compute(panel.compute, verdict.algorithm)
        shown = "-" if verdict.headline is None else verdict.headline.text
        answer = "-" if verdict.answer is None else verdict.answer.text
        row = [label(verdict.algorithm), verdict.code, shown, verdict.claim or "-", answer]
        if panel.flops:
            row.append(
                "-"
                if per_flop is None
                else f"{number(per_flop.estimate)} ({number(per_flop.low)} to {number(per_flop.high)})"
                + ("" if per_flop.extrapolation <= 1 else ", extrapolated")
            )
        rows.append(tuple(row))
    columns: tuple[str, ...] = ("algorithm", "verdict on m", "m, per problem", "claim", "claim met?")
    codes = dict.fromkeys(verdict.code for verdict in panel.study.verdicts)
    note = (
        "m: one number for all sizes with its 95 % interval where it describes the curves, else m at the smallest and"
        " the largest size, with limits for all sizes at once. The verdict says whether m is determined, not"
        f" whether a claim is met: {'; '.join(f'{code}, {MEANINGS[code]}' for code in codes)}."
    )
    if panel.flops:
        columns += ("per FLOP, at the largest D",)
        note += (
            f" Per FLOP: times more compute that {label(panel.study.reference)} needs for the same error; training and"
            " generation of everything a run needs except the base policy, at the settings that selection chose. The"
            " interval ignores that selection might have chosen others;"
            + (
                f" a problem costs {panel.problem_flops:g} FLOPs"
                if panel.problem_flops
                else " synthetic problems are free"
            )
            + ", and Costs has the search."
        )
    return TextTable(columns, tuple(rows), note)
