"""Adaptive against exhaustive step values: `python -m benchmarks.adaptive [REPEATS]`, about six minutes on one core.

Rollout policies: SFT of the shipped base policy on 256 and 1,024 problems of quickstart's family, and the base policy
itself. Both modes run as stages on the same negatives, with M = 4, 8 and 16; seconds are the median of warm runs, and
those of a first run, which compiles, stand beside them. Writes benchmarks/results/adaptive.json.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import pandas as pd

from algorithms import sft
from benchmarks.workloads import BASE
from data import rollouts, step_values, verifier
from data.q_values import first_pit
from data.rollout_tables import load_step_values, load_verified
from data.teacher import synthetic
from scaling.config.problems import ModularSum
from scaling.config.sampling import Rollouts, StepValues
from scaling.config.section import plain
from scaling.config.training import Sft

ROOT = Path(__file__).resolve().parents[1]
PROBLEMS = plain(ModularSum(modulus=59, operands=4, zipf_exponent=1.0))
SFT = plain(Sft(learning_rate=1e-3, epochs=5, batch_size=64))
ROLLOUTS = plain(Rollouts(samples_per_problem=8))
CASES = {"SFT on 256 problems": (256, True), "SFT on 1024 problems": (1024, True), "base policy": (256, False)}
COUNTS = (4, 8, 16)
SEED = 0


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (data_size, tuned) in CASES.items():
            inputs = chain(Path(folder) / name, data_size, tuned)
            for count in COUNTS:
                row = {"policy": name, "rollouts_per_prefix": count, **compared(inputs, count, repeats)}
                rows.append(row)
                print(
                    f"{name:21} M = {count:2}  {row['token_ratio']:5.1f}x fewer tokens  {row['seconds_ratio']:4.1f}x"
                    f" faster  same pits {row['same_pits_fraction']:.4f} of {row['num_negatives']}",
                    flush=True,
                )
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "jax": metadata.version("jax")}
    path = ROOT / "benchmarks" / "results" / "adaptive.json"
    path.write_text(json.dumps({"machine": machine, "repeats": repeats, "rows": rows}, indent=1) + "\n")


def chain(folder: Path, data_size: int, tuned: bool) -> dict[str, Path]:
    """The inputs of a step_values stage: policy, synthetic, rollouts, verification."""
    inputs = {name: folder / name for name in ("synthetic", "sft", "rollouts", "verification")}
    for directory in inputs.values():
        directory.mkdir(parents=True)
    common = {"problems": PROBLEMS, "seed": SEED}
    synthetic.run({**common, "teacher": {}, "data_size": data_size}, {}, inputs["synthetic"])
    if tuned:
        sft.run({**common, "sft": SFT}, {**inputs, "base": BASE}, inputs["sft"])
    inputs["policy"] = inputs.pop("sft") if tuned else BASE
    rollouts.run({**common, "rollouts": ROLLOUTS}, inputs, inputs["rollouts"])
    verifier.run(common, inputs, inputs["verification"])
    return inputs


def compared(inputs: dict[str, Path], count: int, repeats: int) -> dict[str, float]:
    """Both modes on the same negatives: what they took, and how often they agree."""
    verified = load_verified(inputs["rollouts"], inputs["verification"])
    numbers, pits, completions, first, warm = {}, {}, {}, {}, {}
    for mode in ("exhaustive", "adaptive"):
        settings = plain(StepValues(rollouts_per_prefix=count, adaptive=mode == "adaptive"), {"negatives_per_problem"})
        config = {"problems": PROBLEMS, "step_values": settings, "traces": "negatives", "traces_per_problem": 4}
        seconds = []
        for _ in range(repeats + 1):
            with tempfile.TemporaryDirectory() as folder:
                out, start = Path(folder), time.perf_counter()
                numbers[mode] = step_values.run({**config, "seed": SEED}, inputs, out)
                seconds.append(time.perf_counter() - start)
                table = load_step_values(out, verified)
                frame = pd.read_parquet(out / "continuations.parquet")
        pits[mode] = [first_pit(row.q_values, row.prompt_value) for row in table.itertuples(index=False)]
        completions[mode] = {
            (row.problem, row.sample, row.step, row.index): list(row.tokens) for row in frame.itertuples(index=False)
        }
        first[mode], warm[mode] = seconds[0], statistics.median(seconds[1:])
    exhaustive, adaptive = numbers["exhaustive"], numbers["adaptive"]
    asked = sum(map(len, completions["adaptive"].values()))
    return {
        "num_negatives": len(pits["adaptive"]),
        "exhaustive_tokens": exhaustive["num_generated_tokens"],
        "adaptive_tokens": adaptive["num_generated_tokens"],
        "replayed_tokens": adaptive["num_replayed_tokens"],
        "token_ratio": exhaustive["num_generated_tokens"] / adaptive["num_generated_tokens"],
        "token_ratio_without_replay": exhaustive["num_generated_tokens"] / asked,
        "flops_ratio": exhaustive["generation_flops"] / adaptive["generation_flops"],
        "continuations_ratio": adaptive["num_exhaustive_continuations"] / adaptive["num_continuations"],
        "same_pits_fraction": statistics.mean(a == b for a, b in zip(*pits.values(), strict=True)),
        "differing_continuations": sum(
            completions["exhaustive"][key] != tokens for key, tokens in completions["adaptive"].items()
        ),
        "mean_pit": statistics.mean(pits["adaptive"]),
        "exhaustive_seconds": warm["exhaustive"],
        "adaptive_seconds": warm["adaptive"],
        "seconds_ratio": warm["exhaustive"] / warm["adaptive"],
        "exhaustive_first_seconds": first["exhaustive"],
        "adaptive_first_seconds": first["adaptive"],
    }


if __name__ == "__main__":
    main()
