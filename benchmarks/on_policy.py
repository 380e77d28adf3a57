"""How group policy gradient gets where it ends: `python -m benchmarks.on_policy`, for the page results/learners.md.

In: sweeps/paper_on_policy.yaml, and the store with its runs. Out: results/on_policy.csv, the logged metrics of every
run in windows of iterations, and results/figures/on_policy.svg and .png. Printed: each metric in the third and in the
fourth quarter of the iterations, so that a curve that still moves is seen.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.looks import plain
from analysis.figures.style import HEIGHT, WIDTH, legend_above, pictures, styled
from data.records import read_jsonl
from scaling.config.on_policy import GroupPg
from scaling.engine.results_dir import open_store
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep
from scaling.training.loop import METRICS_FILE

ROOT = Path(__file__).parents[1]
SWEEP, OUT = ROOT / "sweeps" / "paper_on_policy.yaml", ROOT / "results"
NUM_WINDOWS = 32  # of equal numbers of iterations
METRICS = {
    "rewards/mean": "mean reward",
    "groups/without_gradient_fraction": "groups without a gradient",
    "train/entropy": "entropy per token (nats)",
}
KEYS = ["learning_rate", "iterations", "seed"]


def curves(overrides: Sequence[str]) -> pd.DataFrame:
    """KEYS, `iteration` (the last of a window) and METRICS (means over it), of every finished run of group_pg."""
    sweep = load_sweep(SWEEP, overrides)
    store, found = open_store(sweep), []
    for run in plan(sweep, lambda stage: None).settled:
        folder = store.find(run.trained) if run.cell.algorithm == "group_pg" else None
        if folder is not None:
            settings = run.cell.section(GroupPg)
            logged = pd.DataFrame(read_jsonl(Path(store.local(folder)) / METRICS_FILE))[["iteration", *METRICS]]
            window = (np.arange(len(logged)) * NUM_WINDOWS) // len(logged)
            means = logged.groupby(window).agg({"iteration": "last", **dict.fromkeys(METRICS, "mean")})
            keys = dict(zip(KEYS, (settings.learning_rate, settings.iterations, run.seed), strict=True))
            found.append(means.assign(**keys)[[*KEYS, "iteration", *METRICS]])
    if not found:
        raise SystemExit(f"{store.root} has no run of group_pg; run python -m scaling.sweep {SWEEP} first.")
    return pd.concat(found, ignore_index=True)


def quarters(table: pd.DataFrame) -> pd.DataFrame:
    """Means over the third and the fourth quarter of the iterations, of all seeds of a setting."""
    quarter = (4 * (table["iteration"] - 1) // table["iterations"]).rename("quarter")
    return table[quarter >= 2].groupby([*KEYS[:2], quarter])[list(METRICS)].mean()


def draw(table: pd.DataFrame) -> Figure:
    """A picture a metric, against iterations; a colour a learning rate, a line a seed, of the longest runs."""
    longest = table[table["iterations"] == table["iterations"].max()]
    rates = sorted(longest["learning_rate"].unique())
    with styled():
        figure, row = pictures(len(METRICS), (0.75 * WIDTH * len(METRICS), HEIGHT))
        for axes, metric in zip(row, METRICS, strict=True):
            for (rate, seed), run in longest.groupby(["learning_rate", "seed"]):
                name = f"learning rate {rate:g}" if seed == longest["seed"].min() else "_"
                colour = plain(1 + rates.index(rate)).colour
                axes.plot(run["iteration"], run[metric], color=colour, label=name, linewidth=1)
            axes.set_xlabel("iterations")
            axes.set_ylabel(METRICS[metric])
            axes.set_ylim(bottom=0)
        legend_above(figure)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.on_policy", description=__doc__.partition("\n")[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as store=PATH")
    table = curves(parser.parse_args(argv).set)
    table.to_csv(OUT / "on_policy.csv", index=False, float_format="%.6g", lineterminator="\n")
    print(quarters(table).to_string(float_format="{:.3f}".format))
    figure = draw(table)
    with styled():
        figure.savefig(OUT / "figures" / "on_policy.svg", metadata={"Date": None})
        figure.savefig(OUT / "figures" / "on_policy.png")


if __name__ == "__main__":
    main()
