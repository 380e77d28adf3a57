"""What a grid can be expected to show: studies are simulated on it and analysed as real ones would be.

In: a `Grid` and `Assumptions`. Out: `Expected`, one for each algorithm, and a plain sentence on each claim. The
analysis is the project's own, at fewer draws; same seed, same numbers.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.planner.assumptions import Assumptions, Grid
from analysis.planner.simulation import Assumed, multiplier_at, simulate
from analysis.tables.printing import label
from analysis.verdicts.claims import check_claim, claim_of, claim_text, is_met
from analysis.verdicts.headline import number
from analysis.verdicts.judge import Verdict
from analysis.verdicts.study import analyse

RELIABLE = 0.8  # the share of studies from which on a grid can show something


@dataclass(frozen=True)
class Expected:
    """One algorithm over all simulated studies; shares are of studies."""

    algorithm: str
    claim: float | str | None
    multiplier: float  # assumed, at the algorithm's smallest size
    multiplier_at_largest: float  # the same as multiplier, unless m is known to change with D
    num_studies: int
    refused: float  # share that give neither an interval nor a bound
    coverage: float  # of the others, share whose interval, or bound, holds the assumed multiplier
    width: float  # median of the upper limit over the lower; inf where only a bound, or nothing, comes out
    right_verdict: float | None  # share that are right about whether the claim is met
    from_half: float | None  # share that tell the claim from half of it
    from_one: float | None  # share that tell the claim from 1
    code: str  # the most frequent verdict
    code_share: float
    largest: int  # data size of the algorithm
    largest_reference: int

    @property
    def reach(self) -> float:
        """The data size at which the reference matches the algorithm's largest, over the reference's own largest."""
        return self.multiplier_at_largest * self.largest / self.largest_reference

    @property
    def assumed(self) -> tuple[float, float]:
        """m at the smallest and the largest size."""
        return self.multiplier, self.multiplier_at_largest

    @property
    def assumed_text(self) -> str:
        first, last = (f"{number(m)}x" for m in self.assumed)
        return first if first == last else f"{first} to {last}"


def expect(
    grid: Grid,
    assumptions: Assumptions,
    reference: str,
    claims: Mapping[str, float | str],
    num_studies: int,
    num_draws: int = 100,
    seed: int = 0,
    on_study: Callable[[], None] = lambda: None,
) -> tuple[Expected, ...]:
    """Simulate and analyse; one `Expected` for every algorithm but the reference. on_study: called after each study."""
    others = [name for name in grid.sizes if name != reference]
    multipliers = {name: assumptions.multipliers[name] for name in grid.sizes}
    found: dict[str, list[tuple[Verdict, float, float]]] = {name: [] for name in others}
    for index in range(num_studies):
        generator = np.random.default_rng([seed, 0xDE51, index])
        outcomes = simulate(multipliers, grid.sizes, assumptions.curve, assumptions.noise(grid), generator)
        study = analyse(outcomes, reference, claims, num_draws, seed + index)
        for verdict in study.verdicts:
            found[verdict.algorithm].append((verdict, *allowed(verdict)))
        on_study()
    return tuple(_expected(grid, name, reference, claims, multipliers[name], found[name]) for name in others)


def allowed(found: Verdict) -> tuple[float, float]:
    """The multipliers that a verdict leaves open: an interval, the span over its sizes, one side of a bound, or all."""
    if found.headline is None or found.code == "INVERSE":
        return 0.0, math.inf
    return min(point.low for point in found.headline.points), max(point.high for point in found.headline.points)


def is_true(claim: float | str, assumed: tuple[float, float]) -> bool | None:
    """Whether a claim holds for known multipliers at both ends, as unlimited data would show; None: at one of them."""
    first, last = (is_met(check_claim(claim, m, m)) for m in assumed)
    return first if first is last else None


def told(one: float, other: float, truth: float, low: float, high: float) -> bool:
    """Whether an interval tells two multipliers apart: it leaves out the one farther from the truth."""
    farther = max((one, other), key=lambda m: abs(math.log(m / truth)))
    return not low <= farther <= high


def sentence(e: Expected, reference: str) -> str:
    """In plain words, whether the grid can decide the claim, and if not, why."""
    name, share = label(e.algorithm), f"{e.assumed_text} is assumed"
    if e.claim is None:
        return f"{name}: nothing is claimed and {share}; the median study would give {_precision(e)}."
    assert e.right_verdict is not None
    met = {True: "is met", False: "is not met", None: "depends on D"}[is_true(e.claim, e.assumed)]
    verb = "can" if e.right_verdict >= RELIABLE else "cannot reliably"
    text = f"{name}: {share}; the grid {verb} show that the claim of {claim_text(e.claim)} {met}"
    text += f" ({100 * e.right_verdict:.0f} % of studies do)"
    if e.from_half is not None:
        k = float(e.claim)
        pairs = [(k / 2, e.from_half)] + ([(1.0, e.from_one)] if e.from_one is not None and k != 2 else [])
        text += "".join(f"; it {_tells_apart(k, other, chance)}" for other, chance in pairs)
    return f"{text}." if e.right_verdict >= RELIABLE else f"{text}: {_why_not(e, reference)}."


def _expected(
    grid: Grid,
    name: str,
    reference: str,
    claims: Mapping[str, float | str],
    truth: Assumed,
    results: list[tuple[Verdict, float, float]],
) -> Expected:
    claim = claim_of(name, claims)
    intervals = [(low, high) for _, low, high in results]
    code, count = Counter(verdict.code for verdict, _, _ in results).most_common(1)[0]
    k = None if claim is None or isinstance(claim, str) else float(claim)
    given = [(low, high) for low, high in intervals if (low, high) != (0.0, math.inf)]
    sizes = grid.sizes[name]
    first, last = multiplier_at(truth, np.array([min(sizes), max(sizes)], float)).tolist()
    right = [claim is not None and _is_right(verdict, is_true(claim, (first, last))) for verdict, _, _ in results]
    middle = math.sqrt(first * last)
    return Expected(
        name,
        claim,
        first,
        last,
        len(results),
        refused=1 - len(given) / len(intervals),
        coverage=_share(_holds(low, high, (first, last)) for low, high in given) if given else math.nan,
        width=float(np.median([high / low if low > 0 else math.inf for low, high in intervals])),
        right_verdict=None if claim is None else _share(right),
        from_half=None if k is None else _share(told(k, k / 2, middle, *limits) for limits in intervals),
        from_one=None if k in (None, 1.0) else _share(told(k, 1.0, middle, *limits) for limits in intervals),
        code=code,
        code_share=count / len(results),
        largest=max(sizes),
        largest_reference=max(grid.sizes[reference]),
    )


def _is_right(found: Verdict, truth: bool | None) -> bool:
    """Whether a verdict is right about its claim; truth: None if the claim's truth depends on D."""
    assert found.answer is not None
    return found.answer.status == "depends on D" if truth is None else found.answer.is_met is truth


def _holds(low: float, high: float, assumed: tuple[float, float]) -> bool:
    """Whether limits hold m at both ends; for a bound, whether they hold m at one end or more."""
    least, most = min(assumed), max(assumed)
    return low <= most and least <= high if low == 0 or math.isinf(high) else low <= least and most <= high


def _share(flags: Iterable[bool]) -> float:
    return float(np.mean(list(flags)))


def _tells_apart(one: float, other: float, chance: float) -> str:
    verb = "can tell" if chance >= RELIABLE else "cannot reliably tell"
    return f"{verb} {number(one)}x from {number(other)}x ({100 * chance:.0f} % of studies do)"


def _precision(e: Expected) -> str:
    return "a bound only" if math.isinf(e.width) else f"an interval that spans a factor of {e.width:.2f}"


def _why_not(e: Expected, reference: str) -> str:
    base = label(reference)
    if e.code == "NOT_ESTIMABLE":
        return "most studies allow no estimate; a report on one would say why"
    if e.code == "LOWER_BOUND":
        needed = math.ceil(e.multiplier_at_largest * e.largest)
        m = number(e.multiplier_at_largest)
        return (
            f"{base} is not run far enough, so that most studies end in a lower bound; {m}x at"
            f" D = {e.largest:,} needs {base} on {needed:,} problems, but it ends at {e.largest_reference:,}"
        )
    if math.isinf(e.width):
        return f"most studies end in a bound ({e.code})"
    text = f"the interval spans a factor of {e.width:.2f} in the median study"
    if e.reach > 1:
        would = f"{base} would have to run {number(e.reach)} times as far"
        text += f", and {would} to match {label(e.algorithm)} at every size"
    return f"{text}; more seeds, more test problems or a wider range of D narrow it"
