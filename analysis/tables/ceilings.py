"""The largest multiplier that the problems of a sweep allow, where their family states one.

In: a sweep and its plan. Out: panel -> data size -> the ceiling of m. A claim above it cannot be tested on these
problems. A family counts what a policy pretrained on its own text can learn, so other policies have no ceiling.
"""

from collections.abc import Mapping
from importlib import import_module

from analysis.tables.runs import panel_axes, panel_of
from scaling.config.problems import family_named
from scaling.config.sweep import Cell, Sweep
from scaling.planning.plan import Plan


def ceilings_of(sweep: Sweep, plan: Plan) -> dict[str, Mapping[int, float]]:
    """Ceilings at the sizes of all algorithms but the reference; a panel without any is absent."""
    keys, reference = panel_axes(sweep, plan), sweep.analysis.reference
    cells: dict[str, Cell] = {}
    sizes: dict[str, set[int]] = {}
    for run in plan.runs:
        panel = panel_of(run, keys)
        if run.cell.algorithm == reference:
            cells.setdefault(panel, run.cell)
        else:
            sizes.setdefault(panel, set()).add(run.cell.data_size)
    found = {name: _ceiling(cells[name], tuple(sorted(sizes[name]))) for name in cells if name in sizes}
    return {name: ceiling for name, ceiling in found.items() if ceiling}


def _ceiling(cell: Cell, sizes: tuple[int, ...]) -> Mapping[int, float]:
    module = family_named(cell.problems.family).ceiling
    if not module or cell.policy.hf is not None or cell.policy.base != "pretrained":
        return {}
    ceiling: Mapping[int, float] = import_module(module).ceiling(cell.problems, sizes, cell.pretrain.seed)
    return ceiling
