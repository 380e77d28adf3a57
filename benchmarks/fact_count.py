"""What counting facts predicts: the curve of SFT, and how much any algorithm can gain on the problems of a sweep.

No policy is trained: `python -m benchmarks.fact_count sweeps/paper_scaling.yaml` counts in modular sums
(`data.problems.fact_count`), `sweeps/ledger.yaml` in ledgers (`data.problems.ledger_count`). The ceiling of the
multiplier is printed beside the curve. Writes results/fact_count.json, or results/ledger_count.json.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from data.problems import fact_count, ledger_count
from data.problems.fact_count import horizontal_distance
from data.problems.families import family_of
from scaling.config.problems import Ledger, ModularSum
from scaling.planning.grid import cells
from scaling.planning.sweep_file import load_sweep

RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fact_count", description=__doc__.partition("\n")[0])
    parser.add_argument("sweep", type=Path, help="a sweep file whose problems are modular sums or ledgers")
    problems = cells(load_sweep(parser.parse_args(argv).sweep))[0].problems
    if not isinstance(problems, ModularSum | Ledger):
        parser.error(f"the problems are {problems.family}; expected modular_sum or ledger.")
    sizes = [2**power for power in range(5, 14)]
    if family_of(problems).num_distinct(problems) < problems.num_test + max(sizes):
        parser.error(f"there are fewer than {problems.num_test + max(sizes):,} different problems.")
    counted = ledger_count.count(problems, sizes) if isinstance(problems, Ledger) else fact_count.count(problems, sizes)
    one, every = counted
    rows = [
        {"data_size": size, "one_solution": float(a), "all_solutions": float(b), "ceiling": m}
        for size, a, b, m in zip(sizes, one, every, horizontal_distance(sizes, one, every), strict=True)
    ]
    for row in rows:
        above = "beyond" if row["ceiling"] is None else f"{row['ceiling']:.2f}x"
        print(f"D = {row['data_size']:5,}  {row['one_solution']:.3f}  {row['all_solutions']:.3f}  {above}")
    file = RESULTS / ("ledger_count.json" if isinstance(problems, Ledger) else "fact_count.json")
    file.write_text(json.dumps({"problems": problems.model_dump(mode="json"), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
