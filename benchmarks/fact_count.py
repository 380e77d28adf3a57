"""What counting facts predicts for modular sums: the curve of SFT, and how much any algorithm can gain on its problems.

No policy is trained: `python -m benchmarks.fact_count sweeps/paper_scaling.yaml` draws problems as a sweep does, calls
a sum known when it was shown or the base policy's text has it right more often than not, and a test problem wrong when
its solution needs an unknown one. A solution shows three of the sums of a problem with four operands; all orders
together show twelve. So a learner of all of them is the ceiling for algorithms that learn the sums of their problems
and no rule: the multiplier that it would have is printed beside the curve. Writes results/fact_count.json.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from data.problems import modular_sum
from scaling.config.problems import ModularSum
from scaling.planning.grid import cells
from scaling.planning.sweep_file import load_sweep

OUT = Path(__file__).parent / "results" / "fact_count.json"
NUM_STREAMS = 5  # of training problems
Fact = tuple[int, int]


def of_one_order(numbers: Sequence[int], modulus: int, rng: np.random.Generator) -> list[Fact]:
    """The pairs that one solution adds, in a random order of steps."""
    left, facts = list(numbers), []
    while len(left) > 1:
        at = int(rng.integers(len(left) - 1))
        facts.append((left[at], left[at + 1]))
        left = [sum(facts[-1]) % modulus, *left[:at], *left[at + 2 :]]
    return facts


def of_all_orders(numbers: Sequence[int], modulus: int) -> set[Fact]:
    """The pairs that some solution adds."""
    facts = set()
    for at in range(len(numbers) - 1):
        pair = (numbers[at], numbers[at + 1])
        facts |= {pair} | of_all_orders([sum(pair) % modulus, *numbers[:at], *numbers[at + 2 :]], modulus)
    return facts


def count(problems: ModularSum, sizes: Sequence[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Errors (float64 [len(sizes)]) of a learner of one solution a problem, and of one of all, mean over streams."""
    modulus, confidence = problems.modulus, modular_sum.web_facts(problems, seed).confidence
    rng = np.random.default_rng([seed, 1])
    test = list(_different(problems, rng, problems.num_test, set()))
    needed = [of_one_order(numbers, modulus, rng) for numbers in test]
    errors = np.zeros((2, len(sizes)))
    for stream in range(NUM_STREAMS):
        rng = np.random.default_rng([seed, 2, stream])
        shown = list(_different(problems, rng, max(sizes), set(map(tuple, test))))
        for index, size in enumerate(sizes):
            one = {fact for numbers in shown[:size] for fact in of_one_order(numbers, modulus, rng)}
            every = {fact for numbers in shown[:size] for fact in of_all_orders(numbers, modulus)}
            for row, known in enumerate((one, every)):
                unknown = [any(confidence[a, b] < 0.5 and (a, b) not in known for a, b in facts) for facts in needed]
                errors[row, index] += np.mean(unknown) / NUM_STREAMS
    return errors[0], errors[1]


def ceiling(sizes: Sequence[int], one: np.ndarray, every: np.ndarray) -> list[float | None]:
    """How many times more problems the first learner needs for the second's error; None beyond its largest size."""
    one = np.minimum.accumulate(one)
    falls = np.r_[True, np.diff(one) < 0]
    reached = np.exp(np.interp(-every, -one[falls], np.log(np.asarray(sizes)[falls]))) / np.asarray(sizes)
    return [float(m) if error >= one.min() else None for m, error in zip(reached, every, strict=True)]


def _different(problems: ModularSum, rng: np.random.Generator, number: int, taken: set) -> Iterator[tuple[int, ...]]:
    """Operands of different problems, none of those taken."""
    seen = set(taken)
    while len(seen) < len(taken) + number:
        numbers = tuple(map(int, modular_sum.draw(problems, rng).prompt.split()[:-1]))
        if numbers not in seen:
            seen.add(numbers)
            yield numbers


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fact_count", description=__doc__.partition("\n")[0])
    parser.add_argument("sweep", type=Path, help="a sweep file whose problems are modular sums")
    problems = cells(load_sweep(parser.parse_args(argv).sweep))[0].problems
    if not isinstance(problems, ModularSum):
        parser.error(f"the problems are {problems.family}; expected modular_sum.")
    sizes = [2**power for power in range(5, 14)]
    if modular_sum.num_distinct(problems) < problems.num_test + max(sizes):
        parser.error(f"there are fewer than {problems.num_test + max(sizes):,} different problems.")
    one, every = count(problems, sizes)
    rows = [
        {"data_size": size, "one_solution": float(a), "all_solutions": float(b), "ceiling": m}
        for size, a, b, m in zip(sizes, one, every, ceiling(sizes, one, every), strict=True)
    ]
    for row in rows:
        above = "beyond" if row["ceiling"] is None else f"{row['ceiling']:.2f}x"
        print(f"D = {row['data_size']:5,}  {row['one_solution']:.3f}  {row['all_solutions']:.3f}  {above}")
    OUT.write_text(json.dumps({"problems": problems.model_dump(mode="json"), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
