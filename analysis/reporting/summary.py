"""The table that a report ends with in the terminal, and that a notebook shows: errors by size, and one multiplier.

In: the table of errors, the headlines of the verdicts, and the reference. Out: a table of finished text.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

from analysis.verdicts.judge import label

MULTIPLIER = "multiplier (95 % limits)"


def summary(
    errors: pd.DataFrame, headlines: Mapping[str, str | None], reference: str, sizes: Sequence[int]
) -> pd.DataFrame:
    """One row an algorithm of one panel, which is the index; mean test error in percent for each of the sizes.

    errors: as errors.csv has them. headlines: algorithm -> what its verdict gives of the multiplier; None where nothing
    can be estimated. "-" stands where nothing was measured.
    """
    cells = zip(errors["algorithm"], errors["data_size"], errors["error"].tolist(), strict=True)
    shown = {(name, size): f"{100 * error:.1f}" for name, size, error in cells}
    names = list(dict.fromkeys(errors["algorithm"]))
    table = {f"D={size}": [shown.get((name, size), "-") for name in names] for size in sizes}
    table[MULTIPLIER] = ["reference" if name == reference else (headlines.get(name) or "-") for name in names]
    return pd.DataFrame(table, index=pd.Index([label(name) for name in names], name="algorithm"))
