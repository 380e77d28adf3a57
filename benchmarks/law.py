"""A law of multipliers in three parameters, fitted to one round and asked about four: `python -m benchmarks.law`.

A learner's m is what it closes of a distance. At one end is SFT, at the other a policy that has learned every sum
that its problems allow, free of wrong ones. In logs of data the distance has three parts, and a learner closes a share:

    log m = closed (log R - (n - 1) log(1 - w) + b log(1 - s)),    closed = 1 - (samples rounds)^-theta.

- R, reachable over shown: all orders of a problem's steps show twelve sums of four operands, one solution three.
- w, the share of the teacher's steps that are wrong. A test problem needs n - 1 sums, so that SFT has use of a share
  (1 - w)^(n - 1) of what it is shown; this is 1 / q of m = q g, and nothing in it is fitted.
- s, the share of RFT's positives with a spurious step, as counted in the first round. A verifier cannot tell them from
  the others, and imitation raises both alike: so s is the same in later rounds. b: what they cost.
- samples of a problem in all rounds. Where the chances of right sums have a tail like a power, what is left to find
  after N draws falls like N^-theta, and a round is as many more draws.
- Per-step DPO pays b c: c below 1 means that negatives undo a part. So m_step / m_RFT = (1 - s)^(closed b (c - 1)).

In: results/spoiled.csv (m in one round), the runs of results/shipped/paper_flaws and paper_verifier (s), and what
`benchmarks.beliefs` counted. Out: results/law.csv, m by the law, by the counts, by a constant, and by one round where
four are asked, beside the observed m. A row in one round is predicted without its regime. Rows in four rounds are
predicted from all rows in one; what was observed (results/shipped/paper_rounds) is compared, and never fitted.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from analysis.fitting.isotonic import log_size_reaching, non_increasing
from analysis.reporting.results_folder import read_table
from benchmarks.spoiled import BELIEFS, CLASSES, FLAW, OUT, SHIPPED, counted

OPERANDS, REACHABLE_OVER_SHOWN, SAMPLES = 4, 12 / 3, 64  # of paper_flaws, paper_verifier and paper_rounds
ROUNDS, DATA_SIZE = 4, 256  # of what is held out
REGIME = ["flaw_rate", "classes"]
LEARNERS = ("rft", "step_dpo")
METHODS = ("law", "counts", "constant", "one_round")
FEWEST_ROWS, FEWEST_REGIMES = 9, 4  # three for each parameter; a law of two axes needs more than one level of each
EXACT = 0  # classes of a verifier that sees the whole answer, in this module's tables


class Law(NamedTuple):
    """The three parameters."""

    theta: float  # what is left to find falls like draws^-theta
    b: float  # cost of spurious positives
    c: float  # the part of that cost which per-step DPO pays

    def log_m(self, rows: pd.DataFrame) -> np.ndarray:
        """float64 [rows]; columns flaw_rate, spurious, algorithm, rounds."""
        wrong = 2 * rows["flaw_rate"].to_numpy(float) / (OPERANDS - 1)  # a flawed solution has two wrong sums
        closed = 1 - (SAMPLES * rows["rounds"].to_numpy(float)) ** -self.theta
        cost = self.b * np.where(rows["algorithm"] == "step_dpo", self.c, 1.0)
        of_teacher = -(OPERANDS - 1) * np.log(1 - wrong)
        of_positives = cost * np.log(1 - rows["spurious"].to_numpy(float))
        log_m: np.ndarray = closed * (np.log(REACHABLE_OVER_SHOWN) + of_teacher + of_positives)
        return log_m


def fit(rows: pd.DataFrame) -> Law:
    """The law nearest to log m of rows by least squares, every row with the same weight. Columns: also observed."""
    regimes = len(rows[REGIME].drop_duplicates())
    if len(rows) < FEWEST_ROWS or regimes < FEWEST_REGIMES:
        raise ValueError(
            f"the law is given {len(rows)} multipliers of {regimes} regimes, but its three parameters need at least"
            f" {FEWEST_ROWS} of {FEWEST_REGIMES}; give all of results/spoiled.csv."
        )
    log_m = np.log(rows["observed"].to_numpy(float))

    def errors(at: np.ndarray) -> np.ndarray:
        gaps: np.ndarray = Law(*at).log_m(rows) - log_m
        return gaps

    return Law(*map(float, least_squares(errors, Law(0.2, 2.0, 1.0)).x))


def in_one_round(multipliers: pd.DataFrame, spurious: Mapping[tuple[float, int, int], float]) -> pd.DataFrame:
    """The observed m in one round, a row each; those that cannot be read, below the first size of SFT, are left out.

    multipliers: results/spoiled.csv; spurious: see `shares`.
    """
    of_m = multipliers[(multipliers["quantity"] == "m") & (multipliers["rounds"] == 1) & (multipliers["estimate"] > 0)]
    level = of_m["level"].fillna(EXACT)
    rows = pd.DataFrame(
        {
            "flaw_rate": level.where(of_m["axis"] == FLAW, 0.0),
            "classes": level.where(of_m["axis"] == CLASSES, EXACT).astype(int),
            "algorithm": of_m["algorithm"],
            "rounds": 1,
            "data_size": of_m["data_size"].astype(int),
            "counts": of_m["counted"],
            "observed": of_m["estimate"],
        }
    ).drop_duplicates([*REGIME, "algorithm", "data_size"])  # the exact teacher and verifier are on both axes
    rows["spurious"] = [spurious[key] for key in rows[[*REGIME, "data_size"]].itertuples(index=False, name=None)]
    return rows.sort_values([*REGIME, "algorithm", "data_size"], ignore_index=True)


def shares(runs: pd.DataFrame) -> dict[tuple[float, int, int], float]:
    """(flaw rate, classes, D) -> share of RFT's positives in one round with a spurious step."""
    of_rft = runs[(runs["base"] == "rft") & (runs["rounds"] == 1)]
    sums = of_rft.groupby([*REGIME, "data_size"])[["num_spurious_traces", "num_positives"]].sum()
    return {key: float(a / b) for key, a, b in sums.itertuples(name=None)}


def runs_of(folder: Path) -> pd.DataFrame:
    """A sweep's finished runs with columns flaw_rate, classes, rounds and base, whatever its axes are."""
    runs = read_table(folder / "runs.csv")
    runs = runs[runs["status"] == "done"]
    defaults = {FLAW: 0.0, CLASSES: EXACT, "rounds": 1}
    levels = {key: runs[key].fillna(value) if key in runs else value for key, value in defaults.items()}
    return runs.assign(
        flaw_rate=levels[FLAW],
        classes=levels[CLASSES],
        rounds=levels["rounds"],
        base=runs["algorithm"].str.split(",").str[0],
    ).astype({"classes": int, "rounds": int})


def observed(runs: pd.DataFrame, rows: pd.DataFrame) -> list[float]:
    """m of each row, read off SFT's curve on the same teacher's solutions without a form; NaN where it has not run."""
    errors = runs.groupby([*REGIME, "base", "rounds", "data_size"])["error"].mean()
    found = []
    for flaw_rate, classes, algorithm, rounds, size in rows[[*REGIME, "algorithm", "rounds", "data_size"]].itertuples(
        index=False, name=None
    ):
        key = (flaw_rate, classes, algorithm, rounds, size)
        if key not in errors.index:
            found.append(np.nan)
            continue
        curve = errors[flaw_rate, EXACT, "sft", 1].sort_index()  # no verifier changes SFT
        reached = log_size_reaching(
            non_increasing(curve.to_numpy()[None]), np.log(curve.index.to_numpy(float)), errors[[key]].to_numpy()
        )
        found.append(float(np.exp(reached[0]) / size))
    return found


def left_out(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in one round with m by the law and by a constant, each fitted without the row's regime."""
    law, constant = np.empty(len(rows)), np.empty(len(rows))
    for places in rows.groupby(REGIME).indices.values():
        rest = rows.drop(index=rows.index[places])
        law[places] = np.exp(fit(rest).log_m(rows.iloc[places]))
        constant[places] = np.exp(np.log(rest["observed"]).mean())
    return rows.assign(law=law, constant=constant)


def held_out(rows: pd.DataFrame, document: dict[str, Any]) -> pd.DataFrame:
    """Rows in ROUNDS rounds at DATA_SIZE of every regime and algorithm, predicted from rows in one; none is observed.

    document: what `benchmarks.beliefs` wrote.
    """
    asked = rows[rows["data_size"] == DATA_SIZE].reset_index(drop=True)
    asked = asked.rename(columns={"observed": "one_round"}).assign(rounds=ROUNDS)
    on_flaws = asked["classes"] == EXACT
    as_counted = asked.assign(
        axis=np.where(on_flaws, FLAW, CLASSES),
        level=asked["flaw_rate"].where(on_flaws, asked["classes"]),
        quantity="m",
    )
    constant = float(np.exp(np.log(rows["observed"]).mean()))
    return asked.assign(law=np.exp(fit(rows).log_m(asked)), constant=constant, counts=counted(document, as_counted))


def off_by(rows: pd.DataFrame, method: str) -> float:
    """exp of the root mean square of log errors, over the rows whose m was observed and can be read."""
    known = rows[(rows["observed"] > 0) & np.isfinite(rows["observed"])]
    return float(np.exp(np.sqrt(np.mean(np.log(known[method] / known["observed"]) ** 2))))


def wins(rows: pd.DataFrame) -> list[tuple[float, int]]:
    """The regimes in which the law is nearer to what was observed than the counts and than a constant."""
    known = rows[(rows["observed"] > 0) & np.isfinite(rows["observed"])]
    return [
        (flaw_rate, classes)
        for (flaw_rate, classes), part in known.groupby(REGIME)
        if off_by(part, "law") < min(off_by(part, "counts"), off_by(part, "constant"))
    ]


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """m_step / m_RFT of every regime, rounds and size with both: by the law, the counts, as in one round, observed."""
    keys = [*REGIME, "rounds", "data_size"]
    rft, step = (rows[rows["algorithm"] == name].set_index(keys) for name in LEARNERS)
    numbers = ["law", "counts", "one_round", "observed"]
    found = (step[numbers] / rft[numbers]).dropna(subset=["law"])
    return found.assign(constant=1.0).reset_index()


def main(argv: Sequence[str] | None = None) -> None:
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.law", description=summary)
    parser.add_argument("--results", type=Path, default=SHIPPED, help="of the sweeps (%(default)s)")
    parser.add_argument("--multipliers", type=Path, default=OUT / "spoiled.csv", help="in one round (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="where to write (%(default)s)")
    arguments = parser.parse_args(argv)
    runs = pd.concat([runs_of(arguments.results / name) for name in ("paper_flaws", "paper_verifier")])
    rows = in_one_round(pd.read_csv(arguments.multipliers), shares(runs))
    law = fit(rows)
    asked = held_out(rows, json.loads(BELIEFS.read_text(encoding="utf-8")))
    later = arguments.results / "paper_rounds"
    asked["observed"] = observed(runs_of(later), asked) if later.exists() else np.nan
    table = pd.concat([left_out(rows), asked], ignore_index=True)
    columns = [*REGIME, "algorithm", "rounds", "data_size", "spurious", *METHODS, "observed"]
    table[columns].to_csv(arguments.out / "law.csv", index=False, float_format="%.4g", lineterminator="\n")
    print(f"theta = {law.theta:.3f}, b = {law.b:.2f}, c = {law.c:.2f}; {len(rows)} multipliers in one round")
    for rounds, part in table.groupby("rounds"):
        _say(part, "one round, each regime left out" if rounds == 1 else f"{rounds} rounds, held out")


def _say(rows: pd.DataFrame, where: str) -> None:
    methods = [method for method in METHODS if rows[method].notna().any()]
    shown = rows[rows["data_size"] == DATA_SIZE][[*REGIME, "algorithm", *methods, "observed"]]
    print(f"\n{where}, D = {DATA_SIZE}:\n{shown.round(2).to_string(index=False)}")
    if rows["observed"].isna().all():
        print("nothing observed yet")
        return
    between = ratios(rows)
    for method in methods:
        print(f"{method}: off by {off_by(rows, method):.2f}, m_step / m_RFT by {off_by(between, method):.2f}")
    nearest = wins(rows)
    print(f"the law is nearer than counts and a constant in {len(nearest)} of {len(rows[REGIME].drop_duplicates())}")


if __name__ == "__main__":
    main()
