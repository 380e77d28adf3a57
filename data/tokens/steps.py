"""Cutting a completion's tokens into reasoning steps.

In: token ids, and the family with the policy's tokenizer. A family's own words are cut after the word that ends a step;
without such a word, every word is a step. The tokens of a checkpoint are cut by their text (data.problems.text_cuts).
Out: the steps, whose concatenation is the completion again. The stop token, and anything after it, belongs to the last
step, so that every shorter prefix of steps is something a policy can continue.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache, partial

from data.problems.families import family_of
from data.problems.text_cuts import CUTS, TextCuts, word_cuts
from data.tokens.hf_tokenizer import HfTokenizer
from data.tokens.tokenizer import EOS, AnyTokenizer
from scaling.config.problems import DrawnProblems, Problems
from scaling.config.text_problems import TextProblems


def step_cutter(problems: Problems, tokenizer: AnyTokenizer) -> Callable[[Sequence[int]], list[int]]:
    """Tokens of a completion -> the offset at which each of its steps ends, in tokens."""
    if isinstance(tokenizer, HfTokenizer):
        return partial(text_step_ends, cuts=text_cuts(problems), tokenizer=tokenizer)
    assert isinstance(problems, DrawnProblems)  # those in plain language have a checkpoint's tokenizer
    word = family_of(problems).step_separator(problems)
    return partial(step_ends, separator=None if word is None else tokenizer.id_of(word))


def text_cuts(problems: Problems) -> TextCuts:
    """Where a text is cut into steps: by the step_unit of plain language, or after the family's separator word."""
    if isinstance(problems, TextProblems):
        return CUTS[problems.step_unit]
    return partial(word_cuts, separator=family_of(problems).step_separator(problems))


def step_ends(tokens: Sequence[int], separator: int | None) -> list[int]:
    """The offset at which each step ends: tokens[:ends[i]] are the first i + 1 steps; the last is len(tokens)."""
    tokens = list(tokens)
    if not tokens:
        return []
    num_words = tokens.index(EOS) if EOS in tokens else len(tokens)
    inner = [end for end in range(1, num_words) if separator is None or tokens[end - 1] == separator]
    return [*inner, len(tokens)]


def text_step_ends(tokens: Sequence[int], cuts: TextCuts, tokenizer: HfTokenizer) -> list[int]:
    """The offset at which each step ends, cut by text: tokens[:ends[i]] are the first i + 1; the last is len(tokens).

    A step ends with the token that completes it, wherever that token's text ends: a token that holds the end of a line
    and the next line's first letters belongs to the step it ends. No step is empty or blank.

    How far a prefix of tokens reaches into the text is asked of the tokenizer, not added up: a character of several
    tokens belongs to the last of them, and a tokenizer may drop the blank before the first word.
    """
    tokens = list(tokens)
    if not tokens:
        return []
    written = next((index for index, token in enumerate(tokens) if token in tokenizer.stop_tokens), len(tokens))
    text = tokenizer.decode(tokens[:written])

    @cache
    def reach(count: int) -> int:
        """Characters of the text that the first `count` tokens complete."""
        prefix = tokenizer.decode(tokens[:count])
        while not text.startswith(prefix):  # its last character is not complete
            prefix = prefix[:-1]
        return len(prefix)

    ends, start = [], 0
    for cut in cuts(text):
        end = bisect_left(range(written), cut, key=reach)  # the fewest tokens that reach the cut
        if text[start : reach(end)].strip() and text[reach(end) :].strip():
            ends.append(end)
            start = reach(end)
    return [*ends, len(tokens)]
