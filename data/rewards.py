"""The rewards that learners see: exact, or those of a verifier that lets some wrong answers pass.

In: the verdict on a completion, and the verifier. Out: 1.0 or 0.0. A right answer always passes. A coarse verifier sees
integer answers modulo `classes` only, so it always lets the same wrong answers pass; a
`false_positive` is fixed at random for each completion of a problem, independent of its policy and time.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from data.records import Check, Problem
from scaling.config.sampling import Verifier
from scaling.config.section import parse

_INTEGER = re.compile(r"[+-]?\d{1,3}(,\d{3})+|[+-]?\d+")


def verifier_of(config: Mapping[str, Any]) -> Verifier:
    """The verifier of a stage's config; by default the exact one."""
    return parse(Verifier, config["verifier"]) if "verifier" in config else Verifier()


def reward(verifier: Verifier, problem: Problem, completion: str, check: Check) -> float:
    """1.0 if the verifier accepts the completion; one without an answer never passes."""
    if check.reward == 1.0 or check.answer is None:
        return check.reward
    if verifier.classes is not None and _alike(check.answer, problem.answer, verifier.classes):
        return 1.0
    return float(_uniform(problem.prompt, completion) < verifier.false_positive)


def _alike(given: str, right: str, classes: int) -> bool:
    numbers = [int(text.replace(",", "")) for text in (given, right) if _INTEGER.fullmatch(text)]
    return len(numbers) == 2 and numbers[0] % classes == numbers[1] % classes


def _uniform(prompt: str, completion: str) -> float:
    """In [0, 1), from the texts alone."""
    digest = hashlib.sha256(f"{prompt}\0{completion}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
