"""What selection would have chosen without each of its seeds, and what that is worth on the seed left out.

In: validation errors of the candidates of one cell. Out: rows of selection.csv; and for the bootstrap, how far each
of these choices would move the logit of the cell's error. Leaving one seed out shows how much a choice depends on the
seeds that made it. The seed left out then judges a choice in which it took no part. The moves are centred, since the
setting that was run was chosen with all seeds. Resampling is no alternative: a bootstrap of three seeds would often
choose by one of them alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

# The columns of selection.csv.
SELECTION = ("panel", "algorithm", "data_size", "left_out", "settings", "error", "error_of_chosen", "num_problems")
Moves = Mapping[tuple[str, int], tuple[float, ...]]  # (algorithm, data size) -> a move for each seed left out


def left_out_rows(
    settings: Sequence[str], seeds: Sequence[int], errors: np.ndarray, num_problems: int
) -> list[dict[str, object]]:
    """One row per selection seed: the settings chosen without it, and their error on it beside the chosen settings'.

    settings: of each candidate; errors: float64 [candidates, seeds], on num_problems validation problems. No rows for
    fewer than two seeds.
    """
    if len(seeds) < 2:
        return []
    chosen, rows = int(errors.mean(axis=1).argmin()), list[dict[str, object]]()
    for place, seed in enumerate(seeds):
        found = int(np.delete(errors, place, axis=1).mean(axis=1).argmin())
        row: dict[str, object] = {"left_out": seed, "settings": settings[found], "error": errors[found, place]}
        rows.append(row | {"error_of_chosen": errors[chosen, place], "num_problems": num_problems})
    return rows


def moves_of(table: pd.DataFrame, panel: str) -> Moves:
    """The centred moves of a panel's cells; cells whose choice no seed changes are absent."""
    found = {}
    rows = table[table["panel"] == panel]
    for (algorithm, size), part in rows.groupby(["algorithm", "data_size"], sort=False):
        other, chosen = (_logits(part[name], part["num_problems"]) for name in ("error", "error_of_chosen"))
        moves = other - chosen
        if np.ptp(moves) > 0:
            found[str(algorithm), int(size)] = tuple((moves - moves.mean()).tolist())
    return found


def _logits(errors: pd.Series, num_problems: pd.Series) -> np.ndarray:
    """Logits of errors, half a problem away from 0 and 1."""
    inside = (errors.to_numpy(float) * num_problems.to_numpy(float) + 0.5) / (num_problems.to_numpy(float) + 1)
    logits: np.ndarray = np.log(inside / (1 - inside))
    return logits
