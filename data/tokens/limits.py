"""The most new tokens of a completion: one limit for rollouts, for continuations of their prefixes, for evaluation.

In: a family's config, the policy's tokenizer, and `max_new_tokens` as the sweep gives it. Out: the limit, and how many
completions it has cut. The limit is of the whole completion, its stop token and a continued prefix included.
"""

from collections.abc import Iterable, Sequence

from data.problems.families import family_of
from data.tokens.hf_tokenizer import HfTokenizer
from data.tokens.tokenizer import Tokenizer
from scaling.config.problems import Problems


def completion_limit(problems: Problems, tokenizer: Tokenizer | HfTokenizer, max_new_tokens: int | None) -> int:
    """max_new_tokens, or by default what the family's longest solution and a stop token take."""
    if max_new_tokens is not None:
        return max_new_tokens
    family = family_of(problems)
    return tokenizer.room_for(family.max_completion_words(problems), family.vocabulary(problems)) + 1


def truncated_fraction(completions: Iterable[Sequence[int]], stop_tokens: Sequence[int]) -> float:
    """Share of completions that the limit has cut: they end in no stop token."""
    cut = [not tokens or tokens[-1] not in stop_tokens for tokens in completions]
    return sum(cut) / len(cut)
