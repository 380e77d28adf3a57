"""Starts for a joint fit: a grid in the curved parameters, and the scale and floor by least squares at each point.

In: a design, cell errors [P] (NaN weighs nothing), a form and a hypothesis. Out: the best starts [8, q]. Given the
others, a form is linear in its scale and its floor (variable projection); m4 nearly is, far below its ceiling.
"""

import numpy as np

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
    exponents = _EXPONENTS if len(form.starts) < 10 else _FEWER_EXPONENTS
    no_floor = [_NO_FLOOR] if form.has_floor else []
    grid = np.array([[_SMALL, np.log(b), *no_floor, *extra] for extra in form.starts for b in exponents])
    shape = form.evaluate(grid, np.broadcast_to(log_x, (len(grid), len(log_x))), design.c_max).value
    a, c, residual = _non_negative(root * shape, root if form.has_floor else np.zeros_like(root), root * seen)
    grid[:, 0] = _SMALL + np.log(np.maximum(a, 1e-8))
    if form.has_floor:
        share = np.clip(c / design.c_max, 0.02, 0.98)
        grid[:, 2] = np.log(share / (1 - share))
    best = grid[np.argsort(residual, kind="stable")[:_NUM_POLISHED]]
    others = (len(best), design.num_arms - 1)
    columns = [best]
    if hypothesis != "H0":
        columns.append(np.broadcast_to(log_m[1:], others))
    if hypothesis == "H2":
        columns.append(np.zeros(others))
    if hypothesis == "H3":
        columns.append(np.broadcast_to(own_floor_logit(best[:, 2:3], design.c_max), others))
    return np.concatenate(columns, axis=1)


def _non_negative(x: np.ndarray, z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a, c >= 0 of the least squares of y [P] on a x + c z for each row of x [G, P], and the residual; z may be 0."""
    xx, xz, xy = (x**2).sum(axis=1), x @ z, x @ y
    zz, zy = z @ z, z @ y
    determinant = xx * zz - xz**2
    inside = determinant > 1e-12 * xx * max(zz, 1e-300)
    safe = np.where(inside, determinant, 1.0)
    both = ((xy * zz - zy * xz) / safe, (zy * xx - xy * xz) / safe)
    inside &= (both[0] >= 0) & (both[1] >= 0)
    alone = np.maximum(xy, 0) / np.maximum(xx, 1e-300)
    level = max(zy, 0.0) / zz if zz > 0 else 0.0
    with_x = xx * alone**2 - 2 * alone * xy <= zz * level**2 - 2 * level * zy  # the smaller residual of the two edges
    a = np.where(inside, both[0], np.where(with_x, alone, 0.0))
    c = np.where(inside, both[1], np.where(with_x, 0.0, level))
    return a, c, ((a[:, None] * x + c[:, None] * z - y) ** 2).sum(axis=1)


def rough_log_multipliers(design: Design, errors: np.ndarray) -> np.ndarray:
    """[1 + K] mean horizontal distance to the reference's polyline in log-log, clamped at its ends."""
    reference = design.cells_of(0, errors)
    levels = np.minimum.accumulate(np.clip(errors[reference], _CLIP, None))
    log_m = np.zeros(design.num_arms)
    for arm in range(1, design.num_arms):
        cells = design.cells_of(arm, errors)
        if len(cells):
            wanted = np.log(np.clip(errors[cells], _CLIP, None))
            at = np.interp(-wanted, -np.log(levels), design.log_size[reference])
            log_m[arm] = np.mean(at - design.log_size[cells])
    return log_m
