"""What every kind of stage computes, in tiny runs: `python tests/kind_contents.py` records it again.

Out: `tests/references/kind_contents.json`: kind -> its version and what its stages wrote; texts and whole numbers as
digests, floats as their number, mean and spread. A kind whose version stayed and whose contents changed is refused:
bump its version in scaling/kinds.py first. `--environment` says that jax or the machine changed, and the code did not.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import re
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [os.fspath(ROOT), os.fspath(ROOT / "tests")]

from random_checkpoint import save_random  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402
from tiny_set import gsm8k_folder  # noqa: E402

from data.records import read_jsonl  # noqa: E402
from scaling.config.text_problems import TextProblems  # noqa: E402
from scaling.engine.store import Store  # noqa: E402
from scaling.engine.worker import run_stage  # noqa: E402
from scaling.kinds import kind_of  # noqa: E402
from scaling.planning.plan import plan  # noqa: E402
from scaling.planning.sweep_file import load_sweep  # noqa: E402
from scaling.stage import Stage, in_order  # noqa: E402

FILE = ROOT / "tests" / "references" / "kind_contents.json"
CLOSE = 1e-3  # relative; processors of one make round otherwise
NOT_CONTENTS = ("log.txt", "record.json", "provenance.json")
TRAINING = {"learning_rate": 0.01, "epochs": 10, "batch_size": 8}
ALGORITHMS = ("sft", "filtered_sft", "rft", "dpo", "step_dpo", "step_rft", "awr", "kto", "kto_by_step")
ON_POLICY = {"learning_rate": 0.01, "iterations": 2, "problems_per_update": 4, "samples_per_problem": 4}
TOY = {
    "question": "What does every kind compute?",
    "problems": {"family": "modular_sum", "modulus": 11, "operands": 3, "num_validation": 4, "num_test": 8},
    "policy": {"size": "xxs", "base": "pretrained"},
    "pretrain": {"num_updates": 20, "batch_size": 8},
    "grid": [
        {"algorithm": [*ALGORITHMS, "group_pg", "step_pg", "distill"], "data_size": [8]},
        {
            "algorithm": ["step_dpo"],
            "data_size": [8],
            "step_dpo.pair_mode": ["shared_prefix"],
            "step_dpo.labels": ["advantage"],
        },
        {"algorithm": ["sft"], "data_size": [8], "checkpoint.keep": ["best"], "checkpoint.among": [3]},
    ],
    "seeds": [0],
    "rollouts": {"samples_per_problem": 8},
    "step_values": {"rollouts_per_prefix": 2},
    "evaluation": {"samples_per_problem": 2, "pass_at": [2], "critical_steps": {"problems": 4}},
    **dict.fromkeys(ALGORITHMS, TRAINING),
    "group_pg": ON_POLICY,
    "step_pg": {**ON_POLICY, "rollouts_per_prefix": 4},
    "distill": {**ON_POLICY, "teacher_updates": 10},
}
TEXT = {
    "question": "What does every kind of a set compute?",
    "grid": {"algorithm": ["sft"], "data_size": [4]},
    "seeds": [0],
    "sft": {"learning_rate": 1e-4, "epochs": 1, "batch_size": 4},
    "evaluation": {"samples_per_problem": 0, "pass_at": [], "max_new_tokens": 8},
}

Contents = dict[str, object]


def environment() -> dict[str, str]:
    """What the numbers rest on beside the code: a processor with other vector units sums in another order, which
    training amplifies beyond any tolerance.
    """
    versions = {name: version(name) for name in ("jax", "numpy")}
    return versions | {"machine": platform.machine(), "vector_units": _vector_units()}


def _vector_units() -> str:
    """Those of Linux's list of a processor's features; elsewhere its name."""
    listed = Path("/proc/cpuinfo")
    found = re.search(r"^flags\s*:(.*)", listed.read_text(), re.M) if listed.exists() else None
    if found is None:
        return platform.processor()
    return " ".join(sorted({name for name in found[1].split() if name.startswith(("avx", "amx", "fma"))}))


def computed(folder: Path) -> dict[str, dict[str, object]]:
    """Kind -> version, parents (kinds), and contents of each of its stages by slug, inputs first."""
    set_folder, checkpoint = gsm8k_folder(folder / "set"), save_random(folder / "checkpoint")
    problems = {"family": "gsm8k", "path": str(set_folder), "num_validation": 2, "num_test": 3}
    problems |= {"answer_forms": ["last_number"], "instruction": ""}
    problems["solvable"] = {"samples": 8, "num_candidates": 30, "max_new_tokens": 24}
    found: dict[str, dict[str, object]] = {}
    for name, sweep in (("toy", TOY), ("text", {**TEXT, "problems": problems, "policy": {"hf": str(checkpoint)}})):
        file = folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**sweep, "store": str(folder / "store")}))
        for stage, contents in _run(file):
            entry = found.setdefault(
                stage.kind, {"version": kind_of(stage.kind).version, "parents": [], "contents": {}}
            )
            entry["parents"] = sorted({*entry["parents"], *(parent.kind for parent in stage.inputs.values())})
            graded = f", grader {TextProblems.model_fields['grader'].default}" if name == "text" else ""
            entry["contents"][f"{name}{graded}/{stage.slug}"] = contents  # a new grader is another identity
    return found


def _run(file: Path) -> list[tuple[Stage, Contents]]:
    sweep = load_sweep(file, ())
    store = Store(sweep.store)
    while ready := [stage for stage in plan(sweep, store.numbers).ready_stages if store.find(stage) is None]:
        for stage in ready:
            outcome = run_stage(stage, store)
            if store.find(stage) is None:
                raise RuntimeError(f"{stage.name}: {outcome}")
    stages = in_order([target for run in plan(sweep, store.numbers).runs for target in run.targets])
    return [(stage, contents_of(Path(store.find(stage)), store.record(stage)["numbers"])) for stage in stages]


def contents_of(folder: Path, numbers: Mapping[str, float]) -> Contents:
    """File -> what is in it, and the numbers that the stage returned."""
    found: Contents = {"numbers": {name: value for name, value in sorted(numbers.items()) if "seconds" not in name}}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in NOT_CONTENTS):
        found[path.relative_to(folder).as_posix()] = _of_file(path)
    return found


def _of_file(path: Path) -> object:
    if path.suffix == ".safetensors":
        return {name: _of_values(array.astype(np.float64).ravel()) for name, array in sorted(load_file(path).items())}
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
        return {str(name): _of_values(table[name].tolist()) for name in table}
    if path.suffix == ".jsonl":
        table = pd.DataFrame(read_jsonl(path))
        return {str(name): _of_values(table[name].tolist()) for name in table if "seconds" not in str(name)}
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _of_values(values: object) -> object:
    """Floats as their number, mean and spread, whatever lists they stand in; everything else as a digest."""
    flat = _flat(values)
    if flat and all(isinstance(value, float) for value in flat):
        known = np.array([value for value in flat if not math.isnan(value)])
        return [len(flat), float(known.mean()) if len(known) else 0.0, float(known.std()) if len(known) else 0.0]
    return hashlib.sha256(json.dumps(flat, default=str).encode()).hexdigest()[:16]


def _flat(values: object) -> list:
    if isinstance(values, dict):
        return [item for key in sorted(values) for item in (key, *_flat(values[key]))]
    if isinstance(values, np.ndarray):
        return _flat(values.tolist())
    return [item for value in values for item in _flat(value)] if isinstance(values, list | tuple) else [values]


def same(one: object, other: object) -> bool:
    """Whether two contents agree; floats to CLOSE."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) or isinstance(other, float):
        return isinstance(other, int | float) and math.isclose(one, other, rel_tol=CLOSE, abs_tol=1e-5)
    return one == other


def changed(found: Mapping[str, Mapping], recorded: Mapping[str, Mapping]) -> list[str]:
    """Kinds with the recorded version and other contents, though what they were computed from is as recorded."""
    agrees = {
        kind: kind in recorded
        and entry["version"] == recorded[kind]["version"]
        and all(
            same(contents, recorded[kind]["contents"].get(stage, contents))
            for stage, contents in entry["contents"].items()
        )
        for kind, entry in found.items()
    }
    return [
        kind
        for kind, entry in found.items()
        if kind in recorded
        and entry["version"] == recorded[kind]["version"]
        and not agrees[kind]
        and all(agrees[parent] for parent in entry["parents"] if parent != kind)
    ]


def main() -> int:
    """Record; 1 where a version has to be bumped first."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--environment", action="store_true", help="jax or the machine changed, the code did not")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = computed(Path(folder))
    recorded = json.loads(FILE.read_text())["kinds"] if FILE.exists() else {}
    wrong = [] if arguments.environment else changed(found, recorded)
    for kind in wrong:
        print(f"{kind} computes something else under version {found[kind]['version']}: bump it in scaling/kinds.py.")
    if wrong:
        return 1
    FILE.write_text(json.dumps({"environment": environment(), "kinds": found}, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
