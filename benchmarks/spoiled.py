"""What spoiled positives do to multipliers: `python -m benchmarks.spoiled`, for the page results/README.md.

In: results/shipped/paper_flaws, the axis of a flawed teacher, and results/shipped/paper_verifier, that of a verifier
that accepts wrong answers, one round each; results/shipped/paper_rounds has four rounds on both axes. Out:
results/spoiled.csv and results/figures/spoiled.svg and .png. With a flawed teacher m = q g: m is read off SFT's curve
on flawed solutions, g off that on exact ones, and q, what exact solutions would have saved, is their ratio. All are
point-wise, from one bootstrap of runs and test problems, so that ratios are paired. The column `counted` is what
`benchmarks.beliefs` predicted without training.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.looks import looks
from analysis.figures.style import HEIGHT, WIDTH, styled
from analysis.fitting.bootstrap import crossed_bootstrap
from analysis.fitting.isotonic import log_size_reaching, non_increasing
from analysis.multipliers.estimates import percentile_interval
from analysis.reporting.results_folder import read_table
from analysis.tables.outcomes import Outcomes, from_table

OUT = Path(__file__).parents[1] / "results"
SHIPPED = OUT / "shipped"
FLAW, CLASSES = "problems.flaw_rate", "verifier.classes"
BELIEFS = Path(__file__).parent / "results" / "beliefs.json"
COLUMNS = ("axis", "level", "quantity", "algorithm", "rounds", "data_size", "estimate", "low", "high")
NAMES = {"rft": "RFT", "step_dpo": "per-step DPO"}


@dataclass(frozen=True)
class Read:
    """Errors of a sweep, drawn again: an arm is an algorithm, its level of the axis, and its rounds."""

    outcomes: Outcomes
    draws: np.ndarray  # float64 [B, P]

    def log_m(self, arm: str, data_size: int, reference: str) -> np.ndarray:
        """float64 [1 + B], log of how many times more data the reference needs; the estimate first, then the draws."""
        cells = self.outcomes.cells_of(reference)
        errors = np.concatenate([self.outcomes.errors[None], self.draws])
        log_sizes = np.log(self.outcomes.data_size[cells])
        own = errors[:, self.outcomes.index(arm, data_size)]
        reached: np.ndarray = log_size_reaching(non_increasing(errors[:, cells]), log_sizes, own) - np.log(data_size)
        return reached

    def has(self, arm: str, data_size: int) -> bool:
        return arm in self.outcomes.algorithms and data_size in self.outcomes.sizes_of(arm)


def read(folder: Path, axis: str, num_draws: int, seed: int) -> tuple[Read, pd.DataFrame]:
    """A sweep's outcomes with arms named by `arm`, and its runs. Of a sweep with both axes, those on `axis` alone."""
    runs = read_table(folder / "runs.csv")
    if axis == FLAW and CLASSES in runs:
        runs = runs[runs[CLASSES].isna()]
    if axis == CLASSES and FLAW in runs:
        runs = runs[runs[FLAW] == 0]
    runs = runs.assign(
        panel=runs["panel"].fillna(""),
        rounds=runs.get("rounds", 1),
        level=runs[axis].astype(object).where(runs[axis].notna(), None),
        base=runs["algorithm"].str.split(",").str[0],
    )
    runs["arm"] = [
        arm(base, level if axis == FLAW or base != "sft" else None, 1 if base == "sft" else int(rounds))
        for base, level, rounds in zip(runs["base"], runs["level"], runs["rounds"], strict=True)
    ]
    outcomes = pd.read_parquet(folder / "outcomes.parquet")
    outcomes = outcomes.astype(dict.fromkeys(("panel", "algorithm", "problem"), str))
    of_run = ["panel", "algorithm", "data_size", "seed"]
    named = outcomes.merge(runs[[*of_run, "arm"]], on=of_run, validate="many_to_one")
    named = named.drop(columns=["panel", "algorithm"]).rename(columns={"arm": "algorithm"})
    table = from_table(named)
    reference = next(name for name in table.algorithms if name.startswith("sft"))
    return Read(table, crossed_bootstrap(table, num_draws, seed, reference)), runs


def arm(algorithm: str, level: float | None, rounds: int) -> str:
    return f"{algorithm} at {'none' if level is None else f'{level:g}'}, {rounds}"


def multipliers(found: Read, runs: pd.DataFrame, axis: str) -> list[tuple]:
    """Rows of COLUMNS: m everywhere, g and q where the teacher is flawed, and m of per-step DPO over m of RFT."""
    rows, log_m = [], {}
    for level, name, rounds, size in _learners(runs):
        learner = arm(name, level, rounds)
        if not found.has(learner, size):
            continue
        m = found.log_m(learner, size, arm("sft", level if axis == FLAW else None, 1))  # no verifier changes SFT
        log_m[level, name, rounds, size] = m
        quantities = {"m": m}
        if axis == FLAW:
            g = found.log_m(learner, size, arm("sft", 0.0, 1))
            quantities |= {"g": g, "q": m - g}
        rows += [(axis, level, what, name, rounds, size, *limits(drawn)) for what, drawn in quantities.items()]
    for (level, name, rounds, size), m in log_m.items():
        step = log_m.get((level, "step_dpo", rounds, size))
        if name == "rft" and step is not None:
            rows.append((axis, level, "m_step / m_rft", "", rounds, size, *limits(step - m)))
    return rows


def _learners(runs: pd.DataFrame) -> list[tuple[float | None, str, int, int]]:
    """Level, algorithm, rounds and data size of every learner's cell."""
    cells = runs[runs["base"] != "sft"][["level", "base", "rounds", "data_size"]].drop_duplicates()
    return [(level, name, int(rounds), int(size)) for level, name, rounds, size in cells.itertuples(index=False)]


def limits(drawn: np.ndarray) -> tuple[float, float, float]:
    """Estimate and 95 % limits of what was drawn as logs, the estimate first; infinite where the curve ends."""
    known = drawn[1:][~np.isnan(drawn[1:])]  # a ratio of two that are both beyond the curve is unknown
    low, high = percentile_interval(np.exp(known)) if len(known) else (np.nan, np.nan)
    return float(np.exp(drawn[0])), low, high


def counted(document: dict, table: pd.DataFrame) -> list[float]:
    """What `benchmarks.beliefs` gave for every m and g of the table before anything was trained; NaN for the rest."""
    log_sizes, sizes = np.log(document["sizes"]), document["arm_sizes"]
    rows = {(row["flaw_rate"], row["classes"]): row for row in document["rows"]}
    found = []
    for row in table.itertuples(index=False):
        level = None if pd.isna(row.level) else float(row.level)
        cell = rows[(level, None) if row.axis == FLAW else (0.0, level)]
        errors = cell.get(f"{row.algorithm}, {row.rounds}")
        if row.quantity not in ("m", "g") or errors is None or row.data_size not in sizes:
            found.append(np.nan)
            continue
        curve = np.array([(cell if row.quantity == "m" else rows[0.0, None])["sft"]])
        error = np.array([errors[sizes.index(row.data_size)]])
        found.append(float(np.exp(log_size_reaching(non_increasing(curve), log_sizes, error)[0])) / row.data_size)
    return found


def spurious(runs: pd.DataFrame) -> dict[float | None, float]:
    """Level -> share of RFT's positives in one round that have a spurious step, over all sizes."""
    part = runs[(runs["base"] == "rft") & (runs["rounds"] == 1)]
    sums = part.groupby("level", dropna=False)[["num_spurious_traces", "num_positives"]].sum()
    shares = sums["num_spurious_traces"] / sums["num_positives"]
    return {None if pd.isna(level) else float(level): float(share) for level, share in shares.items()}


def draw(table: pd.DataFrame, shares: dict[float | None, float], operands: int, data_size: int) -> Figure:
    """Left: m, q and g by the share of spurious steps. Right: m and its ratio by that of spurious positives in one
    round. A row of panels for each number of rounds."""
    at_size = table[table["data_size"] == data_size]
    all_rounds = sorted(at_size["rounds"].unique())
    colours = {name: look.colour for name, look in looks(("sft", *NAMES), "sft").items()}
    with styled():
        figure = Figure(figsize=(2 * WIDTH, len(all_rounds) * HEIGHT), layout="constrained")
        panels = figure.subplots(len(all_rounds), 2, squeeze=False, sharex="col", sharey="col")
        for rounds, (left, right) in zip(all_rounds, panels, strict=True):
            said = f"D = {data_size}, {'one round' if rounds == 1 else f'{rounds} rounds'}"
            here = at_size[at_size["rounds"] == rounds]
            of_flaws = here[here["axis"] == FLAW].assign(x=lambda rows: 2 * rows["level"] / (operands - 1))
            for place, name in enumerate(NAMES):
                _line(left, of_flaws, name, "m", colours[name], "-", f"m of {NAMES[name]}", place)
                _line(left, of_flaws, name, "g", colours[name], "--", f"g of {NAMES[name]}", place)
            _line(left, of_flaws, "rft", "q", "#777777", ":", "q, what exact solutions would save")
            left.set_ylabel("times the problems that SFT needs")
            left.set_title(f"flawed teacher, {said}", fontsize=8)
            of_verifiers = here[here["axis"] == CLASSES]
            x = [shares[None if pd.isna(level) else float(level)] for level in of_verifiers["level"]]
            of_verifiers = of_verifiers.assign(x=x)
            for place, name in enumerate(NAMES):
                _line(right, of_verifiers, name, "m", colours[name], "-", f"m of {NAMES[name]}", place)
            _line(right, of_verifiers, "", "m_step / m_rft", "#000000", "--", "per-step DPO over RFT", 2)
            right.set_title(f"verifier that accepts wrong answers, {said}", fontsize=8)
        panels[-1, 0].set_xlabel("share of the teacher's steps that are spurious")
        panels[-1, 1].set_xlabel("share of RFT's positives in one round with a spurious step")
        for axes in panels.flat:
            _finish(axes)
    return figure


def _line(
    axes: Axes, rows: pd.DataFrame, name: str, quantity: str, colour: str, style: str, text: str, place: int = 0
) -> None:
    """One quantity of an algorithm with its 95 % limits; place: moves it aside, so that bars do not meet."""
    line = rows[(rows["algorithm"] == name) & (rows["quantity"] == quantity)].sort_values("x")
    y = line["estimate"]
    axes.errorbar(
        line["x"] + 0.006 * place,
        y,
        yerr=np.clip([y - line["low"], line["high"].replace(np.inf, np.nan).fillna(y) - y], 0, None),
        color=colour,
        marker="o",
        linestyle=style,
        markerfacecolor=colour if style == "-" else "none",
        markersize=4,
        linewidth=1.2,
        elinewidth=0.7,
        label=text,
    )


def _finish(axes: Axes) -> None:
    axes.axhline(1, color="black", linewidth=0.6, linestyle=":")
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [tick for tick in (0.4, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24) if low < tick < high]
    axes.set_yticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=6.5)


def main(argv: Sequence[str] | None = None) -> None:
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spoiled", description=summary)
    parser.add_argument("--results", type=Path, default=SHIPPED, help="of both sweeps (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="where to write (%(default)s)")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-size", type=int, default=256, help="of the figure (%(default)s)")
    arguments = parser.parse_args(argv)
    sources = [("paper_flaws", FLAW), ("paper_verifier", CLASSES), ("paper_rounds", FLAW), ("paper_rounds", CLASSES)]
    found = {
        (name, axis): read(arguments.results / name, axis, arguments.draws, arguments.seed)
        for name, axis in sources
        if (arguments.results / name).exists()
    }
    rows = [row for (_, axis), (outcomes, runs) in found.items() for row in multipliers(outcomes, runs, axis)]
    runs = found["paper_verifier", CLASSES][1]
    keys = ["axis", "level", "quantity", "algorithm", "rounds", "data_size"]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(keys, na_position="first", ignore_index=True)
    table["counted"] = counted(json.loads(BELIEFS.read_text(encoding="utf-8")), table)
    table.to_csv(arguments.out / "spoiled.csv", index=False, float_format="%.4g", lineterminator="\n")
    folder = arguments.out / "figures"
    folder.mkdir(exist_ok=True)
    figure = draw(table, spurious(runs), 4, arguments.data_size)
    with styled():
        figure.savefig(folder / "spoiled.svg", metadata={"Date": None})
        figure.savefig(folder / "spoiled.png")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
