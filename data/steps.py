"""Cutting a completion's tokens into reasoning steps.

In: token ids and the id of the word that ends a step (None where every word is a step). Out: the steps, whose
concatenation is the completion again. EOS, and whatever stands behind it, belongs to the last step, so that every
shorter prefix of steps is something a policy can continue.
"""

from collections.abc import Sequence
from itertools import pairwise

from data.tokenizer import EOS


def split_steps(tokens: Sequence[int], separator: int | None) -> list[list[int]]:
    """The steps of a completion, in order. A completion of EOS alone is one step; no tokens are no steps."""
    tokens = list(tokens)
    return [tokens[start:end] for start, end in pairwise([0, *step_ends(tokens, separator)])]


def step_ends(tokens: Sequence[int], separator: int | None) -> list[int]:
    """The offset at which each step ends: tokens[:ends[i]] are the first i + 1 steps; the last is len(tokens)."""
    tokens = list(tokens)
    if not tokens:
        return []
    num_words = tokens.index(EOS) if EOS in tokens else len(tokens)
    inner = [end for end in range(1, num_words) if separator is None or tokens[end - 1] == separator]
    return [*inner, len(tokens)]
