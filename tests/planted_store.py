"""A store filled by stages that fake their work, so that tables and reports have something to read without training."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from planted import power_law

from scaling.engine.store import Store
from scaling.engine.worker import run_stage
from scaling.kinds import kind_names
from scaling.planning.plan import Plan, plan
from scaling.planning.sweep_file import load_sweep

MULTIPLIERS = {"sft": 1.0, "rft": 2.0, "pairs": 1.0, "step_pairs": 4.0}
NUM_PROBLEMS = 80


def fill(file: Path, failing: str = "", overrides: tuple[str, ...] = ()) -> tuple[Plan, Store]:
    """Run a sweep's stages with fake runners until no choice is open; stages whose name holds `failing` raise."""
    sweep = load_sweep(file, overrides)
    store = Store(sweep.store)
    runners = dict.fromkeys(kind_names(), _data) | dict.fromkeys(("pretrain", "sft", "rft", "dpo", "step_rft"), _policy)
    runners |= {"teacher": _teacher, "evaluation": _evaluation, "critical_steps": _critical_steps}
    tried: set[str] = set()
    while True:
        current = plan(sweep, lambda stage: (store.record(stage) or {}).get("numbers"))
        ready = [stage for stage in current.ready_stages if stage.digest not in tried]
        if not ready:
            return current, store
        for stage in ready:
            tried.add(stage.digest)
            inputs_there = all(store.find(parent) for parent in stage.inputs.values())
            if not inputs_there:
                continue
            bad = failing and failing in stage.name
            run_stage(stage, store, dict.fromkeys(kind_names(), _raise) if bad else runners)


def _raise(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    raise RuntimeError("the disk is on fire")


def _data(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    return {
        "generation_flops": 10.0,
        "num_pairs": 4.0,
        "num_positives": 3.0,
        "problems_without_data_fraction": 0.25,
        "mean_pit": 1.5,
        "kept_steps_fraction": 0.5,
    }


def _teacher(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    (out / "size.json").write_text(json.dumps(config["data_size"]))
    return {"num_problems": float(config["data_size"])}


def _policy(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Remembers its effective data size: D of its synthetic problems times the planted multiplier."""
    size = 0.0
    kind = "sft"
    if "synthetic" in inputs:
        size = json.loads((inputs["synthetic"] / "size.json").read_text())
        kind = "rft" if "rft" in config else "sft"
    elif "reference" in inputs:
        size = json.loads((inputs["reference"] / "size.json").read_text())
        kind = inputs["pairs"].parent.name
    (out / "size.json").write_text(json.dumps(size * MULTIPLIERS[kind]))
    return {"training_flops": 100.0, "num_updates": 5.0, "train/loss": 0.5}


def _critical_steps(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Two steps of one trace a problem: Q is 0.5 before the pit, the second step, and 0.25 after it."""
    rows = [
        (f"p{index:03d}", 0, step, q, 1, 0.75) for index in range(NUM_PROBLEMS) for step, q in enumerate((0.5, 0.25))
    ]
    columns = ["problem", "sample", "step", "q_value", "pit", "pit_probability"]
    pd.DataFrame(rows, columns=columns).to_parquet(out / "critical_steps.parquet")
    return {"evaluation_flops": 1.0}


def _evaluation(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Outcomes of the planted curve: a problem is wrong when its difficulty, and some luck, exceed the policy."""
    size = json.loads((inputs["policy"] / "size.json").read_text())
    error = power_law(size) if size else 0.9
    name = hashlib.sha256(f"{inputs['policy'].name} {config['seed']}".encode()).digest()
    luck = np.random.default_rng(list(name)).normal(0, 0.05, NUM_PROBLEMS)
    wrong = ((np.arange(NUM_PROBLEMS) + 0.5) / NUM_PROBLEMS + luck < error).astype(np.int8)
    problems = [f"p{index:03d}" for index in range(NUM_PROBLEMS)]
    pd.DataFrame({"problem": problems, "wrong": wrong}).to_parquet(out / "outcomes.parquet")
    return {"error": float(wrong.mean()), "num_problems": float(NUM_PROBLEMS), "evaluation_flops": 1.0}
