"""One study: a table of outcomes analysed against a reference, from form choice to verdicts.

In: `Outcomes`, the reference, the claims. Out: `Study`, finished numbers that plots and reports only draw. The same
input and seed give the same study.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.fitting.bootstrap import MIN_SEEDS, Draws, crossed_bootstrap
from analysis.fitting.forms import FORMS
from analysis.fitting.isotonic import non_increasing, running_minimum
from analysis.multipliers.estimates import (
    Difference,
    Multiplier,
    differences,
    interval_of_errors,
    overall,
    pointwise,
    rise_after_best,
)
from analysis.multipliers.inverse import Inversion, before_turning, inversions
from analysis.multipliers.model import Model, fit_model
from analysis.tables.outcomes import Outcomes
from analysis.verdicts.claims import claim_of
from analysis.verdicts.evidence import REJECTED, Evidence
from analysis.verdicts.judge import Verdict, verdict


@dataclass(frozen=True)
class Study:
    """Everything that plots and reports draw."""

    outcomes: Outcomes
    reference: str
    refusal: str | None  # why there are no intervals; then draws, model and multipliers are absent
    draws: Draws | None
    error_low: np.ndarray | None  # float64 [P]
    error_high: np.ndarray | None
    model: Model | None
    multipliers: tuple[Multiplier, ...]
    differences: tuple[Difference, ...]
    verdicts: tuple[Verdict, ...]
    inversions: tuple[Inversion, ...] = ()  # algorithms, or the reference, that more data make worse

    @property
    def best_so_far(self) -> bool:
        """Whether the reference counts with its running minimum, because more data made it worse."""
        return any(item.algorithm == self.reference for item in self.inversions)

    @property
    def described(self) -> Model | None:
        """The joint fit, where one multiplier for all sizes describes the curves."""
        return self.model if self.model is not None and self.model.lack_of_fit >= REJECTED else None

    @property
    def varying(self) -> Model | None:
        """The joint fit, where multipliers that may change with D describe the curves."""
        return self.model if self.model is not None and self.model.lack_of_fit_varying >= REJECTED else None

    def overall(self, algorithm: str) -> Multiplier | None:
        """The algorithm's constant multiplier, where there is one."""
        return self._only(algorithm, "overall")

    def one_number(self, algorithm: str) -> Multiplier | None:
        """What stands for all sizes: the constant multiplier where it describes the curves, else the form-free mean."""
        return self._only(algorithm, "mean" if self.described is None else "overall")

    def _only(self, algorithm: str, kind: str) -> Multiplier | None:
        found = [item for item in self.multipliers if item.kind == kind and item.algorithm == algorithm]
        return found[0] if found else None


def analyse(
    outcomes: Outcomes,
    reference: str,
    claims: Mapping[str, float | str],
    num_draws: int = 2000,
    seed: int = 0,
    ceiling: float | None = None,
) -> Study:
    """Analyse. What the data cannot give is refused with a reason inside the study, never guessed.

    ceiling: the error without any data, of chance or the base policy, where known; only the form m4 uses it.
    """
    others = [name for name in outcomes.algorithms if name != reference]
    if len(outcomes.seeds) < MIN_SEEDS:
        why = f"the number of seeds is {len(outcomes.seeds)}, and an interval needs at least {MIN_SEEDS}."
        return _refused(outcomes, reference, claims, why)
    draws = crossed_bootstrap(outcomes, num_draws, seed)
    low, high = interval_of_errors(draws)
    if reference not in outcomes.algorithms:
        refused = _refused(outcomes, reference, claims, f"the reference {reference!r} has no finished run.")
        return Study(outcomes, reference, refused.refusal, draws, low, high, None, (), (), refused.verdicts)
    rises = rise_after_best(outcomes, reference, draws)[1] > 0
    falling = running_minimum if rises else non_increasing
    turned = inversions(outcomes, reference, draws, falling)
    model, why = fit_model(outcomes, reference, draws, before_turning(outcomes, turned), ceiling)
    multipliers = tuple(pointwise(outcomes, reference, draws, falling))
    if model is not None:
        multipliers += tuple(overall(outcomes, reference, model.design, model.constant, model.constant_draws))
    differ = tuple(differences(outcomes, reference, draws))
    evidence = [_evidence(outcomes, reference, name, turned, draws, model, why, multipliers, differ) for name in others]
    verdicts = tuple(verdict(item, claim_of(item.algorithm, claims)) for item in evidence)
    return Study(outcomes, reference, why, draws, low, high, model, multipliers, differ, verdicts, turned)


def _evidence(
    outcomes: Outcomes,
    reference: str,
    algorithm: str,
    turned: tuple[Inversion, ...],
    draws: Draws,
    model: Model | None,
    why: str | None,
    multipliers: tuple[Multiplier, ...],
    differ: tuple[Difference, ...],
) -> Evidence:
    if model is None:
        return Evidence(algorithm, reference, not_estimable=why)
    cells = [item for item in multipliers if item.algorithm == algorithm and item.kind == "pointwise"]
    if len(cells) < FORMS["pow2"].min_sizes:
        sizes = "data size" if len(cells) == 1 else "data sizes"
        why = f"it has {len(cells)} {sizes}, and a multiplier needs {FORMS['pow2'].min_sizes}."
        return Evidence(algorithm, reference, not_estimable=why)
    (m,) = (item for item in multipliers if item.algorithm == algorithm and item.kind == "overall")
    mean = next((item for item in multipliers if item.algorithm == algorithm and item.kind == "mean"), None)
    arm = model.arm(algorithm)
    sizes = outcomes.data_size[outcomes.cells_of(algorithm)]
    delta = model.varying.delta(arm)[0]
    at_ends = np.exp(model.varying.log_multiplier(arm)[0] + delta * (np.log(sizes[[0, -1]]) - model.design.log_center))
    reference_sizes = outcomes.data_size[outcomes.cells_of(reference)]
    censored_above = [item for item in cells if item.right_censored > 0.5]
    censored_below = [item for item in cells if item.left_censored > 0.5]
    difference = next((item for item in differ if item.algorithm == algorithm), None)
    return Evidence(
        algorithm,
        reference,
        num_seeds=len(outcomes.seeds),
        num_problems=outcomes.num_problems,
        sizes=(int(sizes[0]), int(sizes[-1])),
        largest_reference=int(reference_sizes.max()),
        multiplier=m.estimate,
        low=m.low,
        high=m.high,
        right_censored=len(censored_above) / len(cells),
        left_censored=len(censored_below) / len(cells),
        at_least=max((item.at_least for item in censored_above), default=math.nan),
        at_most=min(
            (float(reference_sizes.min()) / (item.data_size or 1) for item in censored_below), default=math.nan
        ),
        mean=(mean.estimate, mean.low, mean.high) if mean else None,
        at_sizes=tuple((item.estimate, item.low_at_once, item.high_at_once) for item in cells),
        lack_of_fit=model.lack_of_fit,
        lack_of_fit_varying=model.lack_of_fit_varying,
        delta=(float(delta), *model.delta_interval(arm)),
        ends=(float(at_ends[0]), float(at_ends[1])),
        form_spread=model.form_spread(algorithm),
        extrapolation=(
            float(m.estimate * sizes[0] / reference_sizes.max()),
            float(m.estimate * sizes[-1] / reference_sizes.max()),
        ),
        held_out=next((item.passed for item in model.held_out if item.algorithm == algorithm), None),
        difference=(difference.estimate, difference.low, difference.high) if difference else (0.0, 0.0, 0.0),
        rise=rise_after_best(outcomes, algorithm, draws),
        inversion=next((item for item in turned if item.algorithm == algorithm), None),
    )


def _refused(outcomes: Outcomes, reference: str, claims: Mapping[str, float | str], why: str) -> Study:
    verdicts = tuple(
        verdict(Evidence(name, reference, not_estimable=why), claim_of(name, claims))
        for name in outcomes.algorithms
        if name != reference
    )
    return Study(outcomes, reference, why, None, None, None, None, (), (), verdicts)
