"""How often the limits of multipliers hold the truth, in simulated studies: `python -m benchmarks.coverage`.

Every study is analysed as a report would be, at fewer draws. A cell of the table is tested: at a one-sided level of 1 %
a binomial test asks whether it covers less than 94 %. Writes docs/coverage.md and coverage.csv beside it; the numbers
depend on the seeds, not on the machine or on how many processes there are.
"""

import argparse
import textwrap
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binom

from analysis.verdicts.headline import Headline
from analysis.verdicts.study import Study, analyse
from benchmarks.coverage_regimes import REFERENCE, Regime, names, regime_of

LEAST, LEVEL = 0.94, 0.01  # a coverage that a one-sided test rejects below
# Raised when a rule of the analysis changes; a row made under earlier rules is marked. 2 (2026-11-30): VARIES also
# needs a slope of point-wise m. That only makes it rarer: limits of the joint fit and of single sizes are the same.
RULES = 2
SHARES = {"joint": "joint fit", "headline": "as given", "each": "m(D)", "at_once": "all D at once"}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=600, help="simulated studies of each regime (%(default)s)")
    parser.add_argument("--draws", type=int, default=400, help="bootstrap draws of each study (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--regimes", default=",".join(names()), help="names with commas between; all by default")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/coverage.md"))
    arguments = parser.parse_args(argv)
    wanted = [name.strip() for name in arguments.regimes.split(",")]
    if unknown := [name for name in wanted if name not in names()]:
        parser.error(f"--regimes has {', '.join(unknown)}; there are {', '.join(names())}.")
    kept = arguments.out.with_suffix(".csv")
    table = pd.read_csv(kept, keep_default_na=False, na_values=[""]) if kept.exists() else pd.DataFrame()
    with ProcessPoolExecutor(arguments.processes) as pool:
        for name in wanted:
            one = partial(study_rows, name, num_draws=arguments.draws, seed=arguments.seed)
            rows = [row for found in pool.map(one, range(arguments.studies), chunksize=5) for row in found]
            found = summary(regime_of(name), pd.DataFrame(rows)).assign(
                draws=arguments.draws, seed=arguments.seed, rules=RULES
            )
            print(found.to_string(index=False), flush=True)
            others = table[table["regime"] != name] if len(table) else table
            table = pd.concat([others, found], ignore_index=True)
            table = table.sort_values("regime", key=lambda column: column.map(names().index), kind="stable")
            table.to_csv(kept, index=False, float_format="%.6g", lineterminator="\n")
            arguments.out.write_text(document(table), encoding="utf-8")


def study_rows(name: str, study: int, num_draws: int, seed: int) -> list[dict]:
    """One row for every arm of one study; the same in every process."""
    regime = regime_of(name)
    outcomes = regime.simulate(np.random.default_rng([seed, zlib.crc32(name.encode()), study]))
    found = analyse(outcomes, REFERENCE, {}, num_draws, seed + study)
    return [{"study": study, "arm": arm, **_row(regime, found, arm)} for arm in regime.arms]


def _row(regime: Regime, found: Study, arm: str) -> dict:
    """What one study says of an arm, and whether that is true; NaN where it says nothing."""
    verdict, model = found.verdict(arm), found.models.get(arm)
    points = [item for item in found.multipliers if item.algorithm == arm and item.kind == "pointwise"]
    truth = {item.data_size: regime.truth(arm, item.data_size or 0) for item in points}
    is_constant = regime.arms[arm].slope == 0
    row = {"code": verdict.code, "kind": verdict.headline.kind if verdict.headline else "", "is_constant": is_constant}
    row |= {"m": regime.arms[arm].m, "noise": found.noise_over_luck}
    if is_constant and model is not None:
        _, low, high = model.multiplier
        row |= {"joint": low <= regime.arms[arm].m <= high, "width": np.log2(high / low)}
    if verdict.headline is not None:
        row["headline"] = _holds(verdict.headline, regime, arm)
    if points:
        row["each"] = np.mean([item.low <= truth[item.data_size] <= item.high for item in points])
        row["at_once"] = all((item.low_at_once or 0) <= truth[item.data_size] <= item.high_at_once for item in points)
    return row


def _holds(given: Headline, regime: Regime, arm: str) -> bool:
    """Whether what is given is true: one number of all sizes, or every one of several, or a bound."""
    sizes = regime.arms[arm].sizes
    truths = [[regime.truth(arm, s) for s in ((p.data_size,) if p.data_size else sizes)] for p in given.points]
    if given.kind == "lower bound":
        return given.points[0].low <= max(truths[0])
    if given.kind == "upper bound":
        return given.points[0].high >= min(truths[0])
    return all(p.low <= min(of) and max(of) <= p.high for p, of in zip(given.points, truths, strict=True))


def summary(regime: Regime, rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each arm: shares of studies, and which coverages a test rejects."""
    found = []
    for arm, part in rows.groupby("arm", sort=False):
        row = {"regime": regime.name, "arm": arm, "studies": len(part)}
        rejected = []
        for name in SHARES:
            values = part[name].dropna().astype(float) if name in part else pd.Series(dtype=float)
            row[name] = values.mean()
            tries = len(values) if name != "each" else 0  # sizes of a study are not independent
            if tries and binom.cdf(round(values.sum()), tries, LEAST) < LEVEL:
                rejected.append(name)
        m, constant = part["m"].iloc[0], part["is_constant"].iloc[0]
        row["supported"] = (part["code"] == "DETERMINED").mean()  # named as in tables that are kept
        row["varies"] = (part["code"] == "VARIES").mean()
        row["one_number"] = (part["kind"] == "one number").mean()
        row["width"] = part["width"].median() if "width" in part else np.nan
        row["noise"] = part["noise"].median()
        row["false"] = (row["supported"] if m == 1 and constant else 0.0), (row["varies"] if constant else 0.0)
        row["false"] = max(row["false"])
        row["rejected"] = " ".join(rejected)
        found.append(row)
    return pd.DataFrame(found)


def document(table: pd.DataFrame) -> str:
    """docs/coverage.md."""
    draws, seed = table["draws"].max(), table["seed"].iloc[0]
    numbers = sorted(set(table["studies"]), reverse=True)
    errors = [f"{100 * np.sqrt(0.95 * 0.05 / number):.1f} points with {number} studies" for number in numbers]
    command = f"python -m benchmarks.coverage --studies {numbers[0]} --draws {draws} --seed {seed}"
    shown = [regime_of(name) for name in dict.fromkeys(table["regime"])]
    rejected = table[table["rejected"].fillna("") != ""]
    verdict = (
        "No cell of the table is rejected."
        if rejected.empty
        else f"Rejected: {'; '.join(f'{r.regime}, {r.arm}: {r.rejected}' for r in rejected.itertuples())}."
    )
    highest = table.loc[table["false"].idxmax()]
    lines = [
        "# Coverage of the 95 % limits",
        "",
        f"Written by `{command}`, a regime at a time (`--regimes`); the numbers depend on the seed, not on the machine."
        f" n is the number of studies, each analysed as a report would be, with {_range(table['draws'])} draws. The"
        f" standard error of a share of 95 % is {' and '.join(errors)}. A share in bold is rejected: a one-sided"
        f" binomial test at {100 * LEVEL:.0f} % says that it is below {100 * LEAST:.0f} %.",
        "",
        f"{verdict} The largest share of false verdicts (DETERMINED where m is 1, VARIES where m is constant) is"
        f" {100 * highest['false']:.1f} %, in {highest['regime']}, {highest['arm']}.",
        "",
        "- joint fit: the 95 % interval of the one multiplier, of every study, whether or not a report would give it;",
        "- as given: whatever the report gives, one number, m at the smallest and largest size, or a bound;",
        "- m(D): the intervals of single sizes; all D at once: the limits for all sizes of an algorithm;",
        "- one number: share of studies that give one; width: log2 of the upper limit over the lower, median;",
        "- noise: run noise over luck as reports print it, median.",
        *([_EARLIER] if (table["rules"] < RULES).any() else []),
        "",
        "| regime | arm | n | joint fit | as given | m(D) | all D | DETERMINED | VARIES | one number | width | noise |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        marks = set(str(row["rejected"]).split()) & set(SHARES)
        shares = [_share(row[name], name in marks) for name in SHARES]
        shares += [_share(row[name], False) for name in ("supported", "varies", "one_number")]
        numbers = ["-" if np.isnan(row[name]) else f"{row[name]:.2f}" for name in ("width", "noise")]
        mark = "*" if row["rules"] < RULES else ""
        lines.append(f"| {row['regime']}{mark} | {row['arm']} | {row['studies']} | {' | '.join([*shares, *numbers])} |")
    lines += [
        "",
        "Regimes. Unless said otherwise: errors c + a D^-b with c = .15, a = .5 at D = 256, b = .25; reference at 64 to"
        " 2,048, algorithms at 64 to 512; three seeds, 500 problems of difficulty sd 2, run effects of sd .12, in"
        " logits and independent.",
        "",
        *(f"- **{regime.name}**: {regime.what}" for regime in shown),
        "",
    ]
    return "\n".join(line if line.startswith("|") else textwrap.fill(line, 120) for line in lines)


_EARLIER = (
    "- a regime with an asterisk was simulated before VARIES also needed a slope of point-wise m; its columns"
    " DETERMINED, VARIES, one number and as given may differ by what its VARIES were then."
)


def _range(numbers: pd.Series) -> str:
    return " to ".join(str(one) for one in dict.fromkeys((numbers.min(), numbers.max())))


def _share(value: float, is_rejected: bool) -> str:
    text = "-" if np.isnan(value) else f"{100 * value:.1f}"
    return f"**{text}**" if is_rejected else text


if __name__ == "__main__":
    main()
