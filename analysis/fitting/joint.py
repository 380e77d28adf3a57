"""The joint model: one reference curve g, and for every other algorithm a multiplier, err_alg(D) = g(m_alg(D) D).

In: a form, a hypothesis and parameters theta [B, q]. Out: values and derivatives at every cell. H0 has m = 1, H1 a
constant multiplier, H2 a multiplier m0 x^delta, H3 a constant multiplier and the algorithm's own floor. Separate
curves, H4, are one H0 for each algorithm. theta is the form's parameters, log m [K], then delta [K] under H2 or the
floors' logits [K] under H3.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.fitting.forms import Form

Hypothesis = Literal["H0", "H1", "H2", "H3"]
# Weak Gaussian priors on unconstrained parameters, with sd 3 or 7, only keep unidentified ones finite; 0: no prior.
_PRECISION = {"log_a": 0.0, "log_b": 0.0, "log_s": 0.0, "log_alpha": 1 / 9, "turn": 1 / 9, "log_f": 1 / 9}
_WEAK = 1 / 49


@dataclass(frozen=True)
class Design:
    """The cells that a joint model is fitted to, without their errors."""

    log_size: np.ndarray  # float64 [P], log of data_size
    arm: np.ndarray  # int [P], 0 for the reference, 1 .. K for the others
    weight: np.ndarray  # float64 [P], trials over overdispersion
    c_max: float  # the smallest observed error, which bounds the floor

    @property
    def num_arms(self) -> int:
        return int(self.arm.max()) + 1

    @cached_property
    def log_center(self) -> float:
        """log D0, of the geometric mean of the distinct sizes."""
        return float(np.unique(self.log_size).mean())

    def cells_of(self, arm: int, errors: np.ndarray) -> np.ndarray:
        """int [J], an arm's cells by growing size, without those whose error is NaN."""
        cells = np.flatnonzero((self.arm == arm) & ~np.isnan(errors))
        by_size: np.ndarray = cells[np.argsort(self.log_size[cells])]
        return by_size


def prior_precision(design: Design, form: Form, hypothesis: Hypothesis) -> np.ndarray:
    """float64 [q], inverse variance of each parameter's prior about 0."""
    num_others = design.num_arms - 1
    of_form = [_PRECISION.get(name, _WEAK) for name in form.parameters]
    flat, slopes, floors = [0.0] * num_others, [1 / 9] * num_others, [_WEAK] * num_others
    return np.array(of_form + {"H0": [], "H1": flat, "H2": flat + slopes, "H3": flat + floors}[hypothesis])


def predict(design: Design, form: Form, hypothesis: Hypothesis, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values [B, P] and their derivatives by theta [B, P, q]."""
    num_others, first = design.num_arms - 1, form.num_parameters
    centred = design.log_size - design.log_center
    shifted = np.broadcast_to(centred, (len(theta), len(centred)))
    if hypothesis == "H0":
        values = form.evaluate(theta[:, :first], shifted, design.c_max)
        return values.value, values.by_theta
    member = (design.arm == np.arange(1, num_others + 1)[:, None]).astype(float)  # [K, P]
    shifted = shifted + theta[:, first : first + num_others] @ member
    if hypothesis == "H3":
        return _own_floors(design, form, theta, shifted)
    columns = member
    if hypothesis == "H2":
        slopes = member * centred
        shifted = shifted + theta[:, first + num_others :] @ slopes
        columns = np.concatenate([member, slopes])
    values = form.evaluate(theta[:, :first], shifted, design.c_max)
    return values.value, np.concatenate([values.by_theta, values.by_log_x[..., None] * columns.T[None]], axis=2)


def own_floor_logit(theta: np.ndarray, c_max: float) -> np.ndarray:
    """H3's floor parameter, the floor's logit, from the form's, which is the logit of the floor's share of c_max."""
    logit: NDArray[np.float64] = np.log(c_max) - np.log1p(np.exp(-theta) - c_max)
    return logit


def _own_floors(design: Design, form: Form, theta: np.ndarray, shifted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H3: each algorithm's cells with its own floor in place of the form's."""
    num_others, first = design.num_arms - 1, form.num_parameters
    at = form.parameters.index("floor")
    value, jacobian = np.empty(shifted.shape), np.zeros((*shifted.shape, theta.shape[1]))
    for arm in range(design.num_arms):
        cells = np.flatnonzero(design.arm == arm)
        own = np.array(theta[:, :first])
        if arm:
            own[:, at] = theta[:, first + num_others + arm - 1]
        # The reference's floor is below every error seen; another algorithm may well end above the best of all.
        found = form.evaluate(own, shifted[:, cells], 1.0 if arm else design.c_max)
        value[:, cells] = found.value
        jacobian[:, cells, :first] = found.by_theta
        if arm:
            jacobian[:, cells, first + arm - 1] = found.by_log_x
            jacobian[:, cells, first + num_others + arm - 1] = found.by_theta[:, :, at]
            jacobian[:, cells, at] = 0.0
    return value, jacobian
