"""Forms of a learning curve g(x), x the data size over its geometric mean, with analytic gradients.

In: unconstrained parameters theta [B, q] and log x [B, P], B fits at once. Out: values in (0, 1] and derivatives.
Forms: pow2 a x^-b; pow3 c + a x^-b (Hestness et al. 2017, arXiv 1712.00409); shift4 c + a (x + d)^-b.
Parameters are (log a, log b[, logit(c / c_max)[, log d]]), c_max the smallest observed error of the data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np


class Values(NamedTuple):
    """A form at some points."""

    value: np.ndarray  # float64 [B, P]
    by_theta: np.ndarray  # float64 [B, P, q]
    by_log_x: np.ndarray  # float64 [B, P]


@dataclass(frozen=True)
class Form:
    """One family of curves."""

    name: str
    formula: str
    parameters: tuple[str, ...]  # names of theta's entries
    min_sizes: int  # distinct data sizes below which it is not fitted
    evaluate: Callable[[np.ndarray, np.ndarray, float], Values]  # (theta [B, q], log_x [B, P], c_max)
    shifts: tuple[float, ...] = ()  # starts for d

    @property
    def num_parameters(self) -> int:
        return len(self.parameters)

    @property
    def has_floor(self) -> bool:
        return "floor" in self.parameters

    def natural(self, theta: np.ndarray, c_max: float) -> dict[str, float]:
        """The parameters as the formula writes them; theta: [q]."""
        found = {"a": float(np.exp(theta[0])), "b": float(np.exp(theta[1]))}
        if self.has_floor:
            found["c"] = float(c_max * _sigmoid(theta[2]))
        if self.shifts:
            found["d"] = float(np.exp(theta[3]))
        return found


def _pow2(theta: np.ndarray, log_x: np.ndarray, c_max: float) -> Values:
    return _power(theta, log_x, np.zeros((len(theta), 1)), None)


def _pow3(theta: np.ndarray, log_x: np.ndarray, c_max: float) -> Values:
    share = _sigmoid(theta[:, 2:3])
    return _power(theta, log_x, c_max * share, c_max * share * (1 - share))


def _shift4(theta: np.ndarray, log_x: np.ndarray, c_max: float) -> Values:
    log_d = theta[:, 3:4]
    log_sum = np.logaddexp(log_x, log_d)
    share = _sigmoid(theta[:, 2:3])
    inner = _power(theta, log_sum, c_max * share, c_max * share * (1 - share))
    by_d = inner.by_log_x * np.exp(log_d - log_sum)
    by_theta = np.concatenate([inner.by_theta, by_d[..., None]], axis=2)
    return Values(inner.value, by_theta, inner.by_log_x * np.exp(log_x - log_sum))


def _power(theta: np.ndarray, log_x: np.ndarray, floor: np.ndarray, by_floor: np.ndarray | None) -> Values:
    """floor + a x^-b with its derivatives by log a, log b and, where there is one, the floor's parameter."""
    b = np.exp(theta[:, 1:2])
    # Beyond e^3 no error is left to describe; the bound keeps far-off trial steps finite.
    power = np.exp(np.clip(theta[:, 0:1] - b * log_x, -700.0, 3.0))
    columns = [power, -b * log_x * power]
    if by_floor is not None:
        columns.append(np.broadcast_to(by_floor, power.shape))
    return Values(floor + power, np.stack(columns, axis=2), -b * power)


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * value))


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "pow2": Form("pow2", "a x^-b", ("log_a", "log_b"), 3, _pow2),
        "pow3": Form("pow3", "c + a x^-b", ("log_a", "log_b", "floor"), 5, _pow3),
        "shift4": Form(
            "shift4", "c + a (x + d)^-b", ("log_a", "log_b", "floor", "log_d"), 7, _shift4, (0.03, 0.1, 0.3, 1.0, 3.0)
        ),
    }
)
