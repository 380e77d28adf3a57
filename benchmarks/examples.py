"""What both sides of the training benchmark learn from: ragged solutions, and pairs of a right and a wrong one.

In: a size of the ladder. Out: token lists in the words of modular_sum at modulus 59. A problem has 3 to 8 operands, so
that sequences have 17 to 64 tokens, as those of a study with problems of mixed difficulty.
"""

from typing import NamedTuple

import numpy as np

from benchmarks.workloads import ASK, BOS, EOS, VOCABULARY

EQUALS, SEPARATOR, ANSWER, ZERO = 4, 5, 6, 7  # token ids; the numbers 0 to 58 are 7 to 65
MODULUS = VOCABULARY - ZERO
OPERANDS = (3, 8)
NUM_ROWS = {"xs": 2048, "s": 1024, "m": 256}  # sequences or pairs of one run: some seconds of work on one core
NUM_ROWS_QUICK = 128
BATCH_SIZE = {"sft": 64, "dpo": 32}
EPOCHS = 2
LEARNING_RATE = {"sft": 1e-3, "dpo": 1e-4}
BETA = 0.1


class Pair(NamedTuple):
    """A prompt, a right completion and a wrong one, as token lists."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def num_rows(size: str, quick: bool) -> int:
    return NUM_ROWS_QUICK if quick else NUM_ROWS[size]


def pairs(count: int, seed: int = 0) -> list[Pair]:
    """`count` problems; the prompt and `chosen` of each are what SFT learns from."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        numbers = rng.choice(MODULUS, rng.integers(OPERANDS[0], OPERANDS[1] + 1), replace=False).tolist()
        prompt = [BOS, *(ZERO + number for number in numbers), ASK]
        wrong_at = int(rng.integers(2, len(numbers) + 1))
        found.append(Pair(prompt, _solution(numbers, rng, None), _solution(numbers, rng, wrong_at)))
    return found


def _solution(numbers: list[int], rng: np.random.Generator, wrong_at: int | None) -> list[int]:
    """Steps `a b = c rest ;` in a random order and the answer; the sum of the step over wrong_at numbers is wrong."""
    numbers, written = list(numbers), []
    while len(numbers) > 1:
        at = int(rng.integers(len(numbers) - 1))
        first, second = numbers[at : at + 2]
        total = (first + second + (1 if len(numbers) == wrong_at else 0)) % MODULUS
        rest = numbers[:at] + numbers[at + 2 :]
        written += [ZERO + first, ZERO + second, EQUALS, ZERO + total, *(ZERO + number for number in rest), SEPARATOR]
        numbers = [*numbers[:at], total, *numbers[at + 2 :]]
    return [*written, ANSWER, ZERO + numbers[0], EOS]
