"""Starts for a joint fit: a grid in the curved parameters, and the scale and floor by least squares at each point.

In: a design, cell errors [P] (NaN weighs nothing), a form and a hypothesis. Out: the best starts [8, q]. Given the
others, a form is linear in its scale and its floor (variable projection); m4 nearly is, far below its ceiling.
"""

import numpy as np
from scipy.optimize import nnls

from analysis.fitting.forms import Form
from analysis.fitting.joint import Design, Hypothesis, own_floor_logit

_CLIP = 1e-6
_EXPONENTS = np.geomspace(0.02, 2.0, 24)  # starts for b, and for s of shift4
_FEWER_EXPONENTS = np.geomspace(0.03, 1.5, 8)  # where the grid has other dimensions to cover
_NUM_POLISHED = 8
_SMALL = -12.0  # log a of a shape: so low that no bound on g is met
_NO_FLOOR = -50.0


def starts(design: Design, errors: np.ndarray, form: Form, hypothesis: Hypothesis) -> np.ndarray:
    """The best starts [8, q] of the grid."""
    log_m = rough_log_multipliers(design, errors) if hypothesis != "H0" else np.zeros(design.num_arms)
    used = ~np.isnan(errors)
    log_x = (design.log_size - design.log_center + log_m[design.arm])[used]
    seen = errors[used]
    root = np.sqrt(design.weight[used] / np.clip(seen * (1 - seen), 1e-3, None))
    found = []
    for extra in form.starts:
        for b in _EXPONENTS if len(form.starts) < 10 else _FEWER_EXPONENTS:
            theta = [_SMALL, np.log(b), *([_NO_FLOOR] if form.has_floor else []), *extra]
            shape = form.evaluate(np.array([theta]), log_x[None], design.c_max).value[0]
            columns = [shape, np.ones_like(shape)] if form.has_floor else [shape]
            scale = np.linalg.norm(shape)
            (a, *floor), residual = nnls(
                root[:, None] * np.stack(columns, axis=1) / [scale, 1][: len(columns)], root * seen
            )
            theta[0] = _SMALL + np.log(max(a / scale, 1e-8))
            if form.has_floor:
                share = np.clip(floor[0] / design.c_max, 0.02, 0.98)
                theta[2] = np.log(share / (1 - share))
            found.append((residual, theta))
    found.sort(key=lambda item: item[0])
    best = np.array([theta for _, theta in found[:_NUM_POLISHED]])
    others = np.zeros(design.num_arms - 1)
    lead = {
        "H0": np.zeros(0),
        "H1": log_m[1:],
        "H2": np.concatenate([log_m[1:], others]),
        "H3": log_m[1:],
    }[hypothesis]
    best = np.concatenate([best, np.broadcast_to(lead, (len(best), len(lead)))], axis=1)
    if hypothesis != "H3":
        return best
    floor = own_floor_logit(best[:, 2:3], design.c_max)
    return np.concatenate([best, np.repeat(floor, len(others), axis=1)], axis=1)


def rough_log_multipliers(design: Design, errors: np.ndarray) -> np.ndarray:
    """[1 + K] mean horizontal distance to the reference's polyline in log-log, clamped at its ends."""
    used = ~np.isnan(errors)
    reference = np.flatnonzero((design.arm == 0) & used)
    reference = reference[np.argsort(design.log_size[reference])]
    levels = np.minimum.accumulate(np.clip(errors[reference], _CLIP, None))
    log_m = np.zeros(design.num_arms)
    for arm in range(1, design.num_arms):
        cells = np.flatnonzero((design.arm == arm) & used)
        if len(cells):
            wanted = np.log(np.clip(errors[cells], _CLIP, None))
            at = np.interp(-wanted, -np.log(levels), design.log_size[reference])
            log_m[arm] = np.mean(at - design.log_size[cells])
    return log_m
