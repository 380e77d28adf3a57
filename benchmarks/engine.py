"""What the engine itself costs: `python benchmarks/engine.py`. Writes benchmarks/results/engine.json.

Three figures: milliseconds for each of 1,000 trivial stages on Ray, from the first start to the last commit; seconds
and memory to plan a sweep of 10,000 runs; seconds to find that nothing is left to do.
"""

import io
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

from rich.console import Console

from scaling.engine.pool import RayPool
from scaling.engine.progress import Progress
from scaling.engine.run import execute, needed
from scaling.engine.store import Store
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep
from scaling.stage import Stage

NUM_STAGES = 1000
RESOURCES = {"train": {"cpu": 1.0}, "rollouts": {"cpu": 1.0}, "host": {"cpu": 1.0}}
SWEEP = """
question: How long does it take to plan this?
grid: {{algorithm: [sft, rft, dpo, step_dpo, step_rft], data_size: {sizes}}}
seeds: {seeds}
"""


def main() -> None:
    figures = {**stage_overhead(), **planning()}
    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
    path = Path(__file__).parent / "results" / "engine.json"
    path.write_text(json.dumps({"machine": machine, **figures}, indent=1) + "\n")
    print(path.read_text())


def stage_overhead() -> dict[str, float]:
    """A chain of two levels: 10 stages that 990 others need."""
    first = [Stage("host", {"number": index}) for index in range(10)]
    rest = [Stage("host", {"number": index}, {"before": first[index % 10]}) for index in range(10, NUM_STAGES)]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        quiet = Console(file=io.StringIO())
        with RayPool(store.root, None, RESOURCES, None, {"host": "trivial:run"}) as pool:
            warm = [Stage("host", {"number": -1 - index}) for index in range(4)]
            execute(warm, store, pool, Progress(quiet), lambda stage: 0.01)
            start = time.perf_counter()
            report = execute([*first, *rest], store, pool, Progress(quiet), lambda stage: 0.01)
            seconds = time.perf_counter() - start
        if len(report.done) != NUM_STAGES:
            raise RuntimeError(f"{len(report.done)} of {NUM_STAGES} stages are done.")
        start = time.perf_counter()
        if needed([*first, *rest], Store(folder))[0]:
            raise RuntimeError("stages are left to run.")
        return {
            "milliseconds_per_stage": 1000 * seconds / NUM_STAGES,
            "seconds_to_see_that_1000_stages_are_stored": time.perf_counter() - start,
        }


def planning() -> dict[str, float]:
    """5 algorithms x 20 sizes x 100 seeds."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "large.yaml"
        file.write_text(SWEEP.format(sizes=[16 * size for size in range(1, 21)], seeds=list(range(100))))
        start = time.perf_counter()
        sweep = load_sweep(file)
        current = plan(sweep, lambda stage: None)
        num_stages = len(current.stages)
        seconds = time.perf_counter() - start
    return {
        "planned_runs": float(len(current.runs)),
        "planned_stages": float(num_stages),
        "planning_seconds": seconds,
        "peak_memory_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


if __name__ == "__main__":
    main()
