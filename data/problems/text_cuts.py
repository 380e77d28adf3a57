"""Where a text is cut into reasoning steps: behind a family's separator word, by line or by sentence.

In: a text. Out: the offsets in it at which one step ends and the next begins. No step is blank. In plain language no
step is a mark alone either: a line of dashes, `$$`, a code fence or `<think>` belongs to the step above it, or below it
where none is above. Changes of these rules raise `step_rules` in scaling.config.text_problems.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType

TextCuts = Callable[[str], list[int]]  # text -> the offsets in it at which a step ends and another begins

_WORD = re.compile(r"\S+")
_OPENING, _CLOSING = "\"'“‘«([{$*\\", "\"'”’»)]}$*\\」』）"
_MARK = re.compile(r"^\s*(?:(?:```|~~~)[\w+-]*|</?[\w:-]+/?>|\\(?:begin|end)\{\w+\*?\})\s*$", re.MULTILINE)
_STOPS = (".", "!", "?", "…", "。", "！", "？")
_WIDE_STOP = re.compile(r"[。！？]+[”’」』）]*(?=\S)")  # needs no space after it
_NO_END = frozenset("mr mrs ms dr prof rev st vs e.g i.e cf fig eq eqs approx resp".split())  # before their dot


def word_cuts(text: str, separator: str | None) -> list[int]:
    """After every separator word but the last; after every word without a separator."""
    return [word.end() for word in _words(text)[:-1] if separator is None or word.group() == separator]


def line_cuts(text: str) -> list[int]:
    """After every line; blank lines belong to the line above them."""
    return [cut for _, _, cut, is_line_end in _gaps(text) if is_line_end]


def sentence_cuts(text: str) -> list[int]:
    """After every sentence and every line.

    A sentence ends with a stop and a blank, before anything but a small letter. The dots of 3.5, of `Mr.` and of a
    line's number (`2. Add them.`) do not end one.
    """
    found = {stop.end() for stop in _WIDE_STOP.finditer(text)}
    starts_line = True
    for word, after, cut, is_line_end in _gaps(text):
        if is_line_end or (_ends_sentence(word, starts_line) and not after[0].islower()):
            found.add(cut)
        starts_line = is_line_end
    return sorted(found)


def reasoning_lines(text: str) -> list[int]:
    """After every line that says something; a chain of thought in one line is cut by sentence.

    One line is also that above a last line which states the answer (####).
    """
    cuts = _saying_something(text, line_cuts(text))
    thought_in_one = not cuts or (len(cuts) == 1 and text[cuts[0] :].lstrip().startswith("####"))
    return reasoning_sentences(text) if thought_in_one else cuts


def reasoning_sentences(text: str) -> list[int]:
    """After every sentence and every line that says something."""
    return _saying_something(text, sentence_cuts(text))


CUTS: Mapping[str, TextCuts] = MappingProxyType(
    {"line": reasoning_lines, "sentence": reasoning_sentences}
)  # by step_unit


def _saying_something(text: str, cuts: list[int]) -> list[int]:
    """The cuts between which there is more than a mark."""
    kept: list[int] = []
    for start, cut in zip([0, *cuts], [*cuts, len(text)], strict=True):
        if _says_something(text[start:cut]):
            kept.append(cut)
        elif kept:
            kept[-1] = cut  # a mark belongs to the step above
    return [cut for cut in kept if cut < len(text)]


def _says_something(piece: str) -> bool:
    return any(character.isalnum() for character in _MARK.sub("", piece))


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
