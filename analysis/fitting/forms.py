"""Forms of a learning curve g(x), with analytic gradients; x is the data size over its geometric mean.

In: unconstrained parameters theta [B, q] and log x [B, P], B fits at once. Out: values in (0, 1] and derivatives.

pow2: a x^-b.
pow3: c + a x^-b (Hestness et al. 2017, arXiv 1712.00409).
shift4: c + a ((x + d) / (1 + d))^-b; pow3 at d = 0, and c + a exp(-s (x - 1)) with s = b / (1 + d) as d grows.
`curves.laws` writes the same curve without the division, so that its a is another number.
m4: the e with (e - c) / (e0 - e)^alpha = a x^-b, which leaves a ceiling e0 and falls to c (Alabdulmohsin et al. 2022,
arXiv 2209.06640).
bnsl1: c + a x^-b (1 + (x / d)^(1 / f))^(-c1 f), one break (Caballero et al. 2022, arXiv 2210.14891).

theta is log a, log b (log s for shift4, as its b and d may grow together without limit), then logit(c / c_max) with
c_max the smallest observed error, then the form's other parameters. These are squeezed smoothly into bounds, so that no
trial step leaves them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling.registry import stamped

# Half-widths of the bounds of squeezed parameters: alpha within e^+-2.5, break within e^+-8 of D0, and so on.
BOUNDS: Mapping[str, float] = MappingProxyType({"log_alpha": 2.5, "turn": 4.0, "log_break": 8.0, "log_f": 3.0})
_NAMES = {"log_a": "a", "log_b": "b", "log_s": "s", "floor": "c", "log_d": "d", "log_alpha": "alpha", "turn": "c1"}
_NAMES |= {"log_break": "d", "log_f": "f"}


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
    starts: tuple[tuple[float, ...], ...] = ((),)  # starts for the parameters beyond the floor
    source: str = ""  # digest of the module that registered it. Empty: this project's

    @property
    def num_parameters(self) -> int:
        return len(self.parameters)

    @property
    def has_floor(self) -> bool:
        return "floor" in self.parameters

    @property
    def natural_names(self) -> tuple[str, ...]:
        """The parameters, in theta's order, as the formula writes them."""
        return tuple(_NAMES.get(name, name.removeprefix("log_")) for name in self.parameters)

    def natural(self, theta: np.ndarray, c_max: float) -> dict[str, float]:
        """The parameters as the formula writes them; theta: [q], or longer, as joint fits have it."""
        found = {}
        for name, written, raw in zip(self.parameters, self.natural_names, theta[: self.num_parameters], strict=True):
            value = _squeeze(raw, BOUNDS[name])[0] if name in BOUNDS else raw
            if name == "floor":
                value = c_max * _sigmoid(value)
            elif name.startswith("log_"):
                value = np.exp(value)
            found[written] = float(value)
        if "s" in found:  # the data may show only that b and d are both large
            found["b"] = found["s"] * (1 + found["d"])
        return dict(sorted(found.items()))


def m4(ceiling: float) -> Form:
    """The form m4 with e0 fixed to chance or the base policy's error; 1 if neither is known."""
    formula = f"e with (e - c) / ({ceiling:g} - e)^alpha = a x^-b"
    starts = tuple((float(np.log(alpha)),) for alpha in (0.1, 0.5, 1.0, 2.0))
    return Form("m4", formula, ("log_a", "log_b", "floor", "log_alpha"), 8, partial(_m4, ceiling=ceiling), starts)


def _pow2(theta: np.ndarray, log_x: np.ndarray, c_max: float) -> Values:
    return _power(theta, log_x, np.zeros((len(theta), 1)), None)


def _pow3(theta: np.ndarray, log_x: np.ndarray, c_max: float) -> Values:
    return _power(theta, log_x, *_floor(theta, c_max))


def _shift4(theta: np.ndarray, log_x: np.ndarray, c_max: float) -> Values:
    log_d = theta[:, 3:4]
    d, log_1d = np.exp(log_d), np.logaddexp(0.0, log_d)
    # log of (x + d) / (1 + d): the first where x + d is nearly 1 + d, the second where both are nearly 0.
    near = np.log1p(np.expm1(np.minimum(log_x, 500.0)) * np.exp(-np.maximum(log_1d, np.log(2.0))))
    ratio = np.where(log_d > 0, near, np.logaddexp(log_x, log_d) - log_1d)
    inner = _power(theta, (1 + d) * ratio, *_floor(theta, c_max))
    by_d = inner.by_log_x * d * (np.expm1(-ratio) + ratio)
    by_theta = np.concatenate([inner.by_theta, by_d[..., None]], axis=2)
    return Values(inner.value, by_theta, inner.by_log_x * np.exp(log_x - ratio))


def _m4(theta: np.ndarray, log_x: np.ndarray, c_max: float, ceiling: float) -> Values:
    """With e = c + w sigmoid(s), w = e0 - c: alpha softplus(s) - softplus(-s) = log a - b log x - (1 - alpha) log w."""
    b = np.exp(theta[:, 1:2])
    floor, by_floor = _floor(theta, c_max)
    log_alpha, by_alpha = _squeeze(theta[:, 3:4], BOUNDS["log_alpha"])
    alpha, width = np.exp(log_alpha), np.maximum(ceiling - floor, 1e-9)
    wanted = theta[:, 0:1] - b * log_x - (1 - alpha) * np.log(width)
    s = _m4_root(wanted, alpha)
    low, high = _sigmoid(-s), _sigmoid(s)
    slope = low + alpha * high  # of the left side by s
    by_s = width * low * high
    chain = by_s / slope
    columns = [
        chain,
        -b * log_x * chain,
        by_floor * (low + chain * (1 - alpha) / width),
        by_alpha * alpha * (np.log(width) - np.logaddexp(0.0, s)) * chain,
    ]
    return Values(floor + width * high, np.stack(columns, axis=2), -b * chain)


def _m4_root(wanted: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """s with alpha softplus(s) - softplus(-s) = wanted, by Newton's method.

    The left side is convex or concave throughout, with a slope between 1 and alpha. After the first step, all steps
    therefore go the same way and cannot overshoot.
    """
    s = np.where(wanted < 0, wanted, wanted / alpha)
    for _ in range(40):
        small = np.exp(-np.abs(s))
        log = np.log1p(small)
        positive = s > 0
        low = np.where(positive, small, 1.0) / (1 + small)  # sigmoid(-s)
        gap = np.where(positive, alpha * s, s) + (alpha - 1) * log - wanted
        step = gap / (low + alpha * (1 - low))
        s = s - step
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    return s


def _bnsl1(theta: np.ndarray, log_x: np.ndarray, c_max: float) -> Values:
    b = np.exp(theta[:, 1:2])
    floor, by_floor = _floor(theta, c_max)
    (turn, by_turn), (log_d, by_d), (log_f, by_f) = (
        _squeeze(theta[:, index : index + 1], BOUNDS[name])
        for index, name in ((3, "turn"), (4, "log_break"), (5, "log_f"))
    )
    f = np.exp(log_f)
    u = (log_x - log_d) / f
    soft, past = np.logaddexp(0.0, u), _sigmoid(u)
    power = np.exp(np.clip(theta[:, 0:1] - b * log_x - turn * f * soft, -700.0, 3.0))
    columns = [
        power,
        -b * log_x * power,
        np.broadcast_to(by_floor, power.shape),
        -by_turn * f * soft * power,
        by_d * turn * past * power,
        -by_f * turn * f * (soft - u * past) * power,
    ]
    return Values(floor + power, np.stack(columns, axis=2), (-b - turn * past) * power)


def _power(theta: np.ndarray, log_x: np.ndarray, floor: np.ndarray, by_floor: np.ndarray | None) -> Values:
    """floor + a x^-b with its derivatives by log a, log b and, where there is one, the floor's parameter."""
    b = np.exp(theta[:, 1:2])
    # No error comes near e^3; the bound keeps far-off trial steps finite.
    power = np.exp(np.clip(theta[:, 0:1] - b * log_x, -700.0, 3.0))
    columns = [power, -b * log_x * power]
    if by_floor is not None:
        columns.append(np.broadcast_to(by_floor, power.shape))
    return Values(floor + power, np.stack(columns, axis=2), -b * power)


def _floor(theta: np.ndarray, c_max: float) -> tuple[np.ndarray, np.ndarray]:
    """The floor [B, 1] and its derivative by theta."""
    share = _sigmoid(theta[:, 2:3])
    return c_max * share, c_max * share * (1 - share)


def _squeeze(value: np.ndarray, bound: float) -> tuple[np.ndarray, np.ndarray]:
    """value squeezed into (-bound, bound), about itself near 0, and the derivative."""
    share = np.tanh(value / bound)
    return bound * share, 1 - share**2


def _sigmoid(value: np.ndarray) -> np.ndarray:
    share: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * value))
    return share


_FLOORED = ("log_a", "log_b", "floor")
_SHIFTS = tuple((float(np.log(d)),) for d in (0.03, 0.1, 0.3, 1.0, 3.0))
_BREAKS = tuple(product((-1.0, -0.3, 0.5), (-2.0, -0.7, 0.7, 2.0), (-1.5, -0.3)))
_FORMS: dict[str, Form] = {
    "pow2": Form("pow2", "a x^-b", _FLOORED[:2], 3, _pow2),
    "pow3": Form("pow3", "c + a x^-b", _FLOORED, 5, _pow3),
    "shift4": Form(
        "shift4",
        "c + a ((x + d) / (1 + d))^-b",
        ("log_a", "log_s", "floor", "log_d"),
        7,
        _shift4,
        _SHIFTS,
    ),
    "m4": m4(1.0),
    "bnsl1": Form(
        "bnsl1",
        "c + a x^-b (1 + (x / d)^(1 / f))^(-c1 f)",
        (*_FLOORED, "turn", "log_break", "log_f"),
        9,
        _bnsl1,
        _BREAKS,
    ),
}
FORMS: Mapping[str, Form] = MappingProxyType(_FORMS)  # of learning curves, by name
# The names added to those of FORMS mean something else wherever a form can be named.
BUILT_IN = (*FORMS, "hill", "chinchilla", "chinchilla_shared", "isoflop", "auto", "last1")
_ANY_FLOOR = 0.1  # c_max of a check


def registered() -> tuple[str, ...]:
    """The forms of plug-ins."""
    return tuple(name for name in FORMS if name not in BUILT_IN)


def register_form(form: Form) -> Form:
    """Register a form from outside. Raises ValueError if its name is taken or fits cannot use it."""
    floor, others = form.parameters[2:3] == ("floor",), form.parameters[2 + form.has_floor :]
    if form.parameters[:2] != ("log_a", "log_b") or floor != form.has_floor:
        raise ValueError(
            f"{form.name}: parameters are {form.parameters}; expected log_a, log_b, then floor, then others."
        )
    if {len(start) for start in form.starts} != {len(others)} or set(others) & {*BOUNDS, "log_s"}:
        raise ValueError(
            f"{form.name}: parameters beyond the floor are {others} and starts {form.starts}; expected one value of"
            f" each start for each parameter, and other names than {', '.join((*BOUNDS, 'log_s'))}."
        )
    _check_derivatives(form)
    form = stamped(form)
    if form.name in BUILT_IN or _FORMS.setdefault(form.name, form) != form:
        owner = "built in" if form.name in BUILT_IN else "already registered, with another record"
        raise ValueError(f"the form {form.name!r} is {owner}; give yours another name.")
    return form


def _check_derivatives(form: Form) -> None:
    """Compare the derivatives with differences of values, since fits rely on them."""
    theta = np.array([[-1.0, -1.0, *[0.3] * form.has_floor, *start] for start in form.starts])
    log_x, steps = np.tile(np.linspace(-2.0, 2.0, 9), (len(theta), 1)), 1e-5 * np.eye(form.num_parameters)
    found = form.evaluate(theta, log_x, _ANY_FLOOR)
    shapes = tuple(part.shape for part in found)
    if shapes != (log_x.shape, (*log_x.shape, form.num_parameters), log_x.shape):
        raise ValueError(f"{form.name}: evaluate returns shapes {shapes}; expected [B, P], [B, P, q] and [B, P].")
    given = {name: found.by_theta[..., index] for index, name in enumerate(form.parameters)} | {"log x": found.by_log_x}
    moves = {name: (step, 0.0) for name, step in zip(form.parameters, steps, strict=True)} | {"log x": (0.0, 1e-5)}
    for name, (by_theta, by_log_x) in moves.items():
        up = form.evaluate(theta + by_theta, log_x + by_log_x, _ANY_FLOOR).value
        slope = (up - form.evaluate(theta - by_theta, log_x - by_log_x, _ANY_FLOOR).value) / 2e-5
        if not np.allclose(given[name], slope, rtol=1e-3, atol=1e-6):
            at = np.unravel_index(np.abs(given[name] - slope).argmax(), slope.shape)
            raise ValueError(
                f"{form.name}: the derivative by {name} is {given[name][at]:.6g} but the values change by"
                f" {slope[at]:.6g} (theta {theta[at[0]].tolist()}, log x {log_x[at]:g})."
            )
