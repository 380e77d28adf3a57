"""The summary table in the terminal and in notebooks: errors by size, and one multiplier.

In: the table of errors, the headlines of the verdicts, and the reference. Out: a table of finished text.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.tables.printing import label

MULTIPLIER = "multiplier (95 % limits)"


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
