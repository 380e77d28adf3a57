"""How often an interval covers what a procedure with selection is worth: `python -m benchmarks.selection_noise`.

Candidates differ in their true logit of the error; a study chooses the best on its selection seeds and measures it with
three more runs. The 95 % interval should cover the mean over studies. Compared are the interval of the runs alone, and
with the moves of `analysis.tables.selection` added as `analysis.fitting.bootstrap` adds them: one seed left out.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.tables.selection import SELECTION, left_out_rows, moves_of

CANDIDATES = {
    "all equal": (0.0, 0.0, 0.0, 0.0),
    "steps of .1": (0.0, 0.1, 0.2, 0.3),
    "steps of .2": (0.0, 0.2, 0.4, 0.6),
    "steps of .3": (0.0, 0.3, 0.6),
    "two, .15 apart": (0.0, 0.15),
}
RUNS, PROBLEMS, DRAWS = 3, 100_000, 400


def covered(truth: np.ndarray, num_seeds: int, run_sd: float, studies: int, seed: int) -> tuple[float, float, float]:
    """Coverage without and with the moves, and how much wider the interval is (mean ratio)."""
    generator = np.random.default_rng(seed)
    errors = truth[:, None] + run_sd * generator.standard_normal((studies, len(truth), num_seeds))
    target = truth[errors.mean(axis=2).argmin(axis=1)].mean()
    held = np.zeros((studies, 2), bool)
    widths = np.zeros((studies, 2))
    for study, found in enumerate(errors):
        shown = 1 / (1 + np.exp(-found))
        rows = left_out_rows([str(one) for one in truth], range(num_seeds), shown, PROBLEMS)
        table = pd.DataFrame(rows).assign(panel="", algorithm="a", data_size=1)[list(SELECTION)]
        moves = np.array(moves_of(table, "").get(("a", 1), (0.0,)))
        measured = truth[shown.mean(axis=1).argmin()] + run_sd * generator.standard_normal() / np.sqrt(RUNS)
        alone = measured + run_sd * generator.standard_normal(DRAWS) / np.sqrt(RUNS)
        for place, draws in enumerate((alone, alone + moves[generator.integers(len(moves), size=DRAWS)])):
            low, high = np.quantile(draws, (0.025, 0.975))
            held[study, place], widths[study, place] = low <= target <= high, high - low
    without, moved = held.mean(axis=0)
    return float(without), float(moved), float((widths[:, 1] / widths[:, 0]).mean())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection_noise", description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    print("| candidates | selection seeds | run sd, logits | coverage, runs alone | with the moves | width |")
    print("|---|---|---|---|---|---|")
    for name, logits in CANDIDATES.items():
        for num_seeds in (2, 3, 5):
            for run_sd in (0.12, 0.3):
                found = covered(np.array(logits), num_seeds, run_sd, arguments.studies, arguments.seed)
                without, moved, width = found
                print(
                    f"| {name} | {num_seeds} | {run_sd} | {100 * without:.1f} | {100 * moved:.1f} | {width:.2f}x |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
