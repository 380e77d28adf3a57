"""What each algorithm should reach on modular sums, predicted before anything is trained, by counting beliefs.

A policy is a table p(c | a, b): how likely it states c as the sum of a and b; it orders steps at random. An algorithm
only moves that table. The base policy's comes from its text. SFT adds a count for every sum that a teacher's solution
shows, right or flawed, and SWAP of one for the same sum with its numbers swapped: policies generalise that way. RFT
counts the sums of the policy's own solutions that a verifier accepts. Per-step DPO raises the sums of an accepted
continuation and lowers the one stated at the first pit, found by Monte Carlo with the same verifier. So flaws of a
teacher and a verifier that accepts wrong answers enter where they do in a sweep.

The model has four numbers, chosen on errors of development seeds with an exact verifier: SWAP; PRIOR, the count that
the base policy's own belief is worth; PUSH, by how much one pair moves a logit; MOST, at which these moves saturate.
`python -m benchmarks.beliefs` writes results/beliefs.json.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from data.problems import modular_sum
from scaling.config.problems import ModularSum

OUT = Path(__file__).parent / "results" / "beliefs.json"
SWAP, PRIOR, PUSH, MOST = 1.0, 0.6, 1.0, 4.0
NUM_HELD_OUT = 3000
FLOOR = 1e-4  # chance of any value, so that exploration never ends
Table = np.ndarray  # float64 [p, p, p], p(c | a, b)


@dataclass(frozen=True)
class Setting:
    """One cell of the study."""

    flaw_rate: float = 0.0
    classes: int | None = None  # the verifier sees answers modulo this
    samples: int = 64
    negatives: int = 16
    continuations: int = 8
    positives: int = 8


@dataclass(frozen=True)
class Traces:
    """Solutions, one a row: every sum as stated, and the answer."""

    facts: np.ndarray  # int64 [n, steps, 3], a, b and c
    lists: tuple[np.ndarray, ...]  # after each step, int64 [n, what is left]
    answers: np.ndarray  # int64 [n]


def base_table(problems: ModularSum, seed: int = 0) -> Table:
    """The base policy's beliefs, those of its text."""
    facts, size = modular_sum.web_facts(problems, seed), problems.modulus
    a, b = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    table = np.full((size, size, size), FLOOR)
    table[a, b, (a + b) % size] += facts.confidence
    table[a, b, facts.wrong] += 1.0 - facts.confidence
    return _normalised(table)


def counted(base: Table, facts: np.ndarray) -> Table:
    """The base policy's beliefs after fine-tuning on sums, int64 [n, 3]."""
    return _normalised(PRIOR * base + _counts(len(base), facts))


def pushed(table: Table, raised: np.ndarray, lowered: np.ndarray) -> Table:
    """Beliefs after preference learning: logits of raised sums go up and those of lowered ones down, up to MOST."""
    moves = PUSH * (_counts(len(table), raised) - _counts(len(table), lowered))
    return _normalised(table * np.exp(MOST * np.tanh(moves / MOST)))


def _counts(size: int, facts: np.ndarray) -> Table:
    counts = np.zeros((size, size, size))
    np.add.at(counts, tuple(facts.T), 1.0)
    np.add.at(counts, (facts[:, 1], facts[:, 0], facts[:, 2]), SWAP)
    return counts


def _normalised(table: Table) -> Table:
    return table / table.sum(axis=2, keepdims=True)


def sample(table: Table, lists: np.ndarray, rng: np.random.Generator, greedy: bool = False) -> Traces:
    """A solution from each list, int64 [n, numbers]; greedy: the likeliest value of each sum."""
    facts, left = [], []
    rows = np.arange(len(lists))
    while lists.shape[1] > 1:
        at = rng.integers(lists.shape[1] - 1, size=len(lists))
        a, b = lists[rows, at], lists[rows, at + 1]
        chances = table[a, b]
        if greedy:
            c = chances.argmax(axis=1)
        else:
            c = (chances.cumsum(axis=1) < rng.random((len(lists), 1))).sum(axis=1).clip(max=table.shape[2] - 1)
        kept = np.ones(lists.shape, bool)
        kept[rows, at] = kept[rows, at + 1] = False
        lists = np.column_stack([c, lists[kept].reshape(len(lists), -1)])
        facts.append(np.column_stack([a, b, c]))
        left.append(lists)
    stacked = np.stack(facts, axis=1) if facts else np.zeros((len(lists), 0, 3), np.int64)
    return Traces(stacked, tuple(left), lists[:, 0])


def taught(problems: ModularSum, lists: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sums of a teacher's solution of each problem, int64 [n steps, 3]."""
    facts = []
    for numbers in lists:
        prompt = " ".join(map(str, numbers)) + " ?"
        text = modular_sum.solve(problems, modular_sum.Problem(prompt, ""), rng)
        facts += [[int(step.split()[at]) for at in (0, 1, 3)] for step in text.split(" ; ")[:-1]]
    return np.array(facts)


def rft(setting: Setting, base: Table, policy: Table, lists: np.ndarray, rng: np.random.Generator, kept: list) -> Table:
    """RFT on its own accepted solutions, pooled with those of earlier rounds, `kept`."""
    for problem, numbers in enumerate(lists):
        found = sample(policy, np.tile(numbers, (setting.samples, 1)), rng)
        right = _accepted(setting, found.answers, numbers.sum(), len(base))
        different = np.unique(found.facts[right].reshape(right.sum(), numbers.size * 3 - 3), axis=0)
        for row in rng.permutation(different)[: setting.positives]:
            kept.append((problem, *row))
    rows = np.unique(np.array(kept), axis=0)[:, 1:] if kept else np.zeros((0, 3), np.int64)
    return counted(base, rows.reshape(-1, 3))


def step_dpo(setting: Setting, policy: Table, lists: np.ndarray, rng: np.random.Generator) -> Table:
    """Per-step DPO on shared prefixes: at the first pit of a rejected solution against an accepted continuation."""
    raised, lowered = [], []
    for numbers in lists:
        target = int(numbers.sum())
        found = sample(policy, np.tile(numbers, (setting.samples, 1)), rng)
        wrong = np.flatnonzero(~_accepted(setting, found.answers, target, len(policy)))
        _, first = np.unique(found.facts[wrong].reshape(len(wrong), numbers.size * 3 - 3), axis=0, return_index=True)
        for trace in rng.permutation(wrong[first])[: setting.negatives]:
            chosen = _first_accepted(setting, policy, numbers, target, rng)  # of the step that is looked at
            for step, left in enumerate(found.lists):
                after = left[trace]
                rescue = _first_accepted(setting, policy, after, target, rng)
                if rescue is None:  # the pit
                    if chosen is not None:
                        raised.append(chosen)
                        lowered.append(found.facts[trace, step])
                    break
                chosen = rescue
    if not raised:
        return policy
    return pushed(policy, np.concatenate(raised), np.array(lowered))


def _first_accepted(
    setting: Setting, policy: Table, numbers: np.ndarray, target: int, rng: np.random.Generator
) -> np.ndarray | None:
    """The sums of the first accepted one of several continuations, int64 [steps, 3]; None where none is."""
    found = sample(policy, np.tile(numbers, (setting.continuations, 1)), rng)
    right = np.flatnonzero(_accepted(setting, found.answers, target, len(policy)))
    return found.facts[right[0]] if len(right) else None


def _accepted(setting: Setting, answers: np.ndarray, total: int, modulus: int) -> np.ndarray:
    right = total % modulus
    return answers == right if setting.classes is None else answers % setting.classes == right % setting.classes


def error(table: Table, test: np.ndarray, rng: np.random.Generator) -> float:
    """Share of test problems that greedy solutions get wrong; evaluation is exact."""
    return float(np.mean(sample(table, test, rng, greedy=True).answers != test.sum(axis=1) % len(table)))


def predict(
    problems: ModularSum, setting: Setting, sizes: Sequence[int], arm_sizes: Sequence[int], rounds: int, seed: int
) -> dict[str, list[float]]:
    """Error of SFT at each size, and of the others at each of arm_sizes after 1 and after all rounds."""
    problems = problems.model_copy(update={"flaw_rate": setting.flaw_rate})
    rng = np.random.default_rng([seed, 7])
    held_out = _different(problems, np.random.default_rng([seed, 1]), NUM_HELD_OUT, ())
    test = np.random.default_rng([seed, 2]).permutation(held_out)
    lists = _different(problems, np.random.default_rng([seed, 3]), max([*sizes, *arm_sizes]), held_out)
    base = base_table(problems)
    facts = taught(problems, lists, rng).reshape(len(lists), -1, 3)
    found: dict[str, list[float]] = {"sft": []}
    for size in sizes:
        found["sft"].append(error(counted(base, facts[:size].reshape(-1, 3)), test, rng))
    for size in arm_sizes:
        sft = counted(base, facts[:size].reshape(-1, 3))
        ways: Mapping[str, Callable[[Table, list], Table]] = {
            "rft": lambda policy, kept, size=size: rft(setting, base, policy, lists[:size], rng, kept),
            "step_dpo": lambda policy, kept, size=size: step_dpo(setting, policy, lists[:size], rng),
        }
        for name, way in ways.items():
            policy, kept = sft, []
            for at in range(1, rounds + 1):
                policy = way(policy, kept)
                if at in (1, rounds):
                    found.setdefault(f"{name}, {at}", []).append(error(policy, test, rng))
    return found


def _different(problems: ModularSum, rng: np.random.Generator, number: int, taken: Iterable) -> np.ndarray:
    """Distinct problems in the order of their draw, none of those taken, int64 [number, operands]."""
    taken = {tuple(map(int, numbers)) for numbers in taken}
    found: dict[tuple[int, ...], None] = {}
    while len(found) < number:
        numbers = tuple(map(int, modular_sum.draw(problems, rng).prompt.split()[:-1]))
        if numbers not in taken:
            found[numbers] = None
    return np.array(list(found))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beliefs", description=__doc__.partition("\n")[0])
    parser.add_argument("--modulus", type=int, default=59)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--sizes", default="64,256", help="of the algorithms (%(default)s)")
    arguments = parser.parse_args(argv)
    problems = ModularSum(modulus=arguments.modulus)
    sizes, arm_sizes = [64, 128, 256, 512, 1024, 2048, 4096], list(map(int, arguments.sizes.split(",")))
    rows = []
    for flaw_rate, classes in [*product((0.0, 0.25, 0.5, 0.8), [None]), *product([0.0], (8, 5, 3))]:
        setting = Setting(flaw_rate, classes)
        runs = [predict(problems, setting, sizes, arm_sizes, arguments.rounds, seed) for seed in range(arguments.seeds)]
        means = {name: np.mean([run[name] for run in runs], axis=0).round(4).tolist() for name in runs[0]}
        rows.append({"flaw_rate": flaw_rate, "classes": classes, **means})
        print(json.dumps(rows[-1]), flush=True)
    document = {
        "swap": SWAP,
        "prior": PRIOR,
        "push": PUSH,
        "most": MOST,
        "sizes": sizes,
        "arm_sizes": arm_sizes,
        "rows": rows,
    }
    OUT.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
