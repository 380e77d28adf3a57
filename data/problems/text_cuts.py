"""Cutting a completion's tokens into reasoning steps by its text, for policies whose tokenizer is not the family's.

In: token ids, the checkpoint's tokenizer, and where to cut a text: behind a family's separator word, by line or by
sentence. Out: the offset in tokens at which each step ends. A step ends with the token that completes it, wherever
that token's text ends: a token that holds the end of a line and the next line's first letters belongs to the step it
ends. No step is empty or blank; a stop token, and whatever stands behind it, belongs to the last step.

How far a prefix of tokens reaches into the text is asked of the tokenizer, not added up: a character of several
tokens belongs to the last of them, and a tokenizer may drop the blank before the first word.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from types import MappingProxyType

from data.tokens.hf_tokenizer import HfTokenizer

TextCuts = Callable[[str], list[int]]  # text -> the offsets in it at which a step ends and another begins

_WORD = re.compile(r"\S+")
_OPENING, _CLOSING = "\"'“‘«([{$*\\", "\"'”’»)]}$*\\」』）"
_STOPS = (".", "!", "?", "…", "。", "！", "？")
_WIDE_STOP = re.compile(r"[。！？]+[”’」』）]*(?=\S)")  # needs no blank behind it
_NO_END = frozenset("mr mrs ms dr prof rev st vs e.g i.e cf fig eq eqs approx resp".split())  # before their dot


def text_step_ends(tokens: Sequence[int], cuts: TextCuts, tokenizer: HfTokenizer) -> list[int]:
    """tokens[:ends[i]] are the first i + 1 steps; the last end is len(tokens). No tokens are no steps."""
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


def word_cuts(text: str, separator: str | None) -> list[int]:
    """Behind every word but the last that is the separator; behind all of them where there is none."""
    return [word.end() for word in _words(text)[:-1] if separator is None or word.group() == separator]


def line_cuts(text: str) -> list[int]:
    """Behind the end of every line; blank lines belong to the line above them."""
    return [cut for _, _, cut, is_line_end in _gaps(text) if is_line_end]


def sentence_cuts(text: str) -> list[int]:
    """Behind every sentence and every line.

    A sentence ends with a stop and a blank, before anything but a small letter. The dots of 3.5, of `Mr.` and of a
    line's number (`2. Add them.`) end none.
    """
    found = {stop.end() for stop in _WIDE_STOP.finditer(text)}
    starts_line = True
    for word, after, cut, is_line_end in _gaps(text):
        if is_line_end or (_ends_sentence(word, starts_line) and not after[0].islower()):
            found.add(cut)
        starts_line = is_line_end
    return sorted(found)


CUTS: Mapping[str, TextCuts] = MappingProxyType({"line": line_cuts, "sentence": sentence_cuts})  # by step_unit


def _gaps(text: str) -> list[tuple[str, str, int, bool]]:
    """For each run of blanks between words: the word before, the word after, where to cut, whether a line ends."""
    gaps = []
    for before, after in pairwise(_words(text)):
        gap = text[before.end() : after.start()]
        last_line_end = max(gap.rfind("\n"), gap.rfind("\r"))
        gaps.append((before.group(), after.group(), before.end() + last_line_end + 1, last_line_end >= 0))
    return gaps


def _words(text: str) -> list[re.Match[str]]:
    return list(_WORD.finditer(text))


def _ends_sentence(word: str, starts_line: bool) -> bool:
    core = word.rstrip(_CLOSING)
    if not core.endswith(_STOPS):
        return False
    name = core.lstrip(_OPENING).removesuffix(".")
    return name.lower() not in _NO_END and not (starts_line and name.isdecimal())
