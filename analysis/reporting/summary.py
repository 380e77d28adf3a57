"""The table that a report ends with in the terminal, and that a notebook shows: errors by size, and one multiplier.

In: the tables of errors and of multipliers, and the reference. Out: a table of finished text.
"""

from collections.abc import Sequence

import pandas as pd

from analysis.verdicts.judge import label, number

MULTIPLIER = "multiplier (95 % interval)"


def summary(errors: pd.DataFrame, multipliers: pd.DataFrame, reference: str, sizes: Sequence[int]) -> pd.DataFrame:
    """One row an algorithm of one panel, which is the index; mean test error in percent for each of the sizes.

    errors, multipliers: as errors.csv and multipliers.csv have them. "-" stands where nothing was measured.
    """
    cells = zip(errors["algorithm"], errors["data_size"], errors["error"].tolist(), strict=True)
    shown = {(name, size): f"{100 * error:.1f}" for name, size, error in cells}
    overall = {}
    if len(multipliers):  # a study without any has no columns either
        kept = multipliers[multipliers["kind"] == "overall"]
        limits = zip(*(kept[name].tolist() for name in ("algorithm", "estimate", "low", "high")), strict=True)
        overall = {name: f"{number(m)} ({number(low)} to {number(high)})" for name, m, low, high in limits}
    names = list(dict.fromkeys(errors["algorithm"]))
    table = {f"D={size}": [shown.get((name, size), "-") for name in names] for size in sizes}
    table[MULTIPLIER] = ["reference" if name == reference else overall.get(name, "-") for name in names]
    return pd.DataFrame(table, index=pd.Index([label(name) for name in names], name="algorithm"))
