"""How long the analysis takes: `python -m benchmarks.analysis_speed`, five minutes, most of them to fill a store.

A planted study of 6 algorithms x 8 sizes x 4 runs x 500 problems, from its table to the report with 2,000 draws and all
figures; and the tabulation of a sweep with 10,000 runs from its store. Writes benchmarks/results/analysis.json.
"""

import json
import os
import platform
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import fit
from analysis.planner.simulation import Noise, simulate
from analysis.tables.runs import tabulate
from scaling.engine.store import Store
from scaling.engine.worker import run_stage
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep

RESULT = Path(__file__).parent / "results" / "analysis.json"
MULTIPLIERS = {"sft": 1.0, "rft": 2.0, "dpo": 1.0, "step_dpo": 8.0, "step_rft": 1.5, "other": 0.7}
SIZES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
NUM_RUNS, NUM_TEST = 10_000, 500
SWEEP = """
question: how long does it take to read ten thousand runs?
policy: {{size: xs}}
problems: {{family: modular_sum, num_test: {num_test}}}
seeds: [{seeds}]
grid: {{algorithm: [sft], data_size: [{sizes}]}}
store: {store}
"""


def main() -> None:
    found = {"study": study_seconds(), "tabulate": tabulate_seconds()}
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
    versions = {name: metadata.version(name) for name in ("numpy", "pandas", "scipy", "matplotlib")}
    RESULT.write_text(json.dumps({"machine": machine, "versions": versions, **found}, indent=1) + "\n")


def study_seconds(num_draws: int = 2000) -> dict[str, float]:
    """From a parquet file of outcomes to the report, target 60 s."""
    noise = Noise(num_seeds=4, num_problems=500)
    curve = lambda size: 0.1 + 0.6 * (size / 64) ** -0.4  # noqa: E731
    outcomes = simulate(MULTIPLIERS, SIZES, curve, noise, np.random.default_rng(0))
    tables = [
        pd.DataFrame(
            {
                "algorithm": outcomes.algorithm[cell],
                "data_size": outcomes.data_size[cell],
                "seed": seed,
                "problem": outcomes.problems,
                "wrong": outcomes.wrong[cell, seed].astype(int),
            }
        )
        for cell in range(len(outcomes.data_size))
        for seed in range(noise.num_seeds)
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "outcomes.parquet"
        pd.concat(tables, ignore_index=True).to_parquet(file)
        start = time.perf_counter()
        claims = ["--reference", "sft", "--claims", "rft=2,step_dpo=8"]
        fit.main([str(file), *claims, "--draws", str(num_draws), "--out", str(Path(folder) / "out")])
        seconds = time.perf_counter() - start
    print(f"study of {len(tables)} runs with {num_draws} draws, figures included: {seconds:.1f} s")
    return {"runs": len(tables), "draws": num_draws, "seconds": seconds, "target": 60.0}


def tabulate_seconds() -> dict[str, float]:
    """Reading the records and outcomes of 10,000 finished runs, target 30 s; the plan is made before."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "large.yaml"
        sizes, seeds = range(16, 16 + 100), range(NUM_RUNS // 100)
        text = SWEEP.format(
            num_test=NUM_TEST,
            seeds=", ".join(map(str, seeds)),
            sizes=", ".join(map(str, sizes)),
            store=f"{folder}/store",
        )
        file.write_text(text)
        sweep = load_sweep(file, [])
        current, store = plan(sweep, lambda stage: None), Store(sweep.store)
        start = time.perf_counter()
        runners = dict.fromkeys({stage.kind for stage in current.stages}, _nothing) | {"evaluation": _evaluation}
        for stage in current.stages:
            run_stage(stage, store, runners)
        filled = time.perf_counter() - start
        print(f"store of {len(current.stages)} stages filled in {filled:.0f} s")
        reader = Store(sweep.store)  # nothing remembered
        start = time.perf_counter()
        tables = tabulate(sweep, current, reader)
        seconds = time.perf_counter() - start
        rows = sum(len(table) for table in tables.outcomes.values())
    print(f"{len(tables.runs)} runs with {rows:,} outcomes tabulated in {seconds:.1f} s")
    return {"runs": len(tables.runs), "outcomes": rows, "seconds": seconds, "target": 30.0}


def _nothing(config, inputs, out) -> dict[str, float]:
    return {"training_flops": 1.0, "num_problems": 1.0}


_PROBLEMS = [f"{index:016x}" for index in range(NUM_TEST)]


def _evaluation(config, inputs, out) -> dict[str, float]:
    wrong = (np.arange(NUM_TEST) % 3 == 0).astype(np.int8)
    pd.DataFrame({"problem": _PROBLEMS, "wrong": wrong}).to_parquet(out / "outcomes.parquet")
    return {"error": float(wrong.mean()), "evaluation_flops": 1.0}


if __name__ == "__main__":
    main()
