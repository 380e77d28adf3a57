"""The final answer of a completion, and whether it equals the reference.

In: text. Out: the answer's text, and a verdict. Each problem set states its answers in a form of its own:

- hashes: `#### 72`, as in GSM8K; the answer is what follows on the line;
- boxed: `\\boxed{72}`, as in MATH;
- phrase: `the answer is 72`, to the end of the sentence;
- last_number: the last number of the text, whatever it stands for.

Of several statements in one form the last counts. Two answers are equal when they are the same text, or the same
integer or rational number (data.answers.exact_numbers); where one is no plain number, when math-verify finds them equal
in a process that can be killed (data.answers.math_process). An answer in words is equal to the same words only.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from data.answers.exact_numbers import MAX_LENGTH, exact_value, plain
from data.answers.math_process import equivalent

_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*")
_PHRASE = re.compile(r"\banswer\s+is\s*:?", re.IGNORECASE)
_NUMBER = re.compile(r"[-−]?[$€£]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?|[-−]?\.\d+")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mbox)\s*\{[^{}]*\}")
_WORD = re.compile(r"[A-Za-z]{2,}")


def final_answer(text: str, forms: Sequence[str]) -> str | None:
    """The answer that a text states in the first of the forms that it uses; None where it states none."""
    for form in forms:
        found = _FORMS[form](text)
        if found:
            return found
    return None


def same_answer(given: str, reference: str, check: Callable[[str, str], bool] = equivalent) -> bool:
    """Whether two answers are equal. check: what is asked, as check(given, reference), when neither text nor number
    decides.
    """
    if _written(given) == _written(reference):
        return bool(plain(given))
    value, expected = exact_value(given), exact_value(reference)
    if value is not None and expected is not None:
        return value == expected
    if max(len(given), len(reference)) > MAX_LENGTH or _has_words(given) or _has_words(reference):
        return False
    if plain(given).isalpha() and plain(reference).isalpha():  # math-verify takes choice A for the variable a
        return False
    return check(plain(given), plain(reference))


def _hashes(text: str) -> str | None:
    found = _HASHES.findall(text)
    return found[-1].strip() if found else None


def _boxed(text: str) -> str | None:
    """The content of the last box; its braces must balance."""
    starts = [match.end() for match in _BOXED.finditer(text)]
    if not starts or starts[-1] == len(text):
        return None
    start = starts[-1]
    if text[start] != "{":
        return text[start]  # \boxed 7
    depth = 0
    for end in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0) if text[end - 1] != "\\" else 0
        if depth == 0:
            return text[start + 1 : end].strip()
    return None


def _phrase(text: str) -> str | None:
    found = list(_PHRASE.finditer(text))
    if not found:
        return None
    line = text[found[-1].end() :].partition("\n")[0]
    return re.split(r"[.!?](?:\s|$)", line.strip())[0].strip()


def _last_number(text: str) -> str | None:
    found = _NUMBER.findall(text)
    return found[-1] if found else None


_FORMS: Mapping[str, Callable[[str], str | None]] = {
    "hashes": _hashes,
    "boxed": _boxed,
    "phrase": _phrase,
    "last_number": _last_number,
}


def _written(answer: str) -> str:
    """The text that is compared: of answers in words alone, capitals do not count."""
    text = plain(answer).replace(" ", "")
    return text.lower() if re.fullmatch(r"[A-Za-z]{3,}", text) else text


def _has_words(answer: str) -> bool:
    """Whether there is plain language outside of LaTeX's text and commands, which math-verify would skip over."""
    return bool(_WORD.search(_COMMAND.sub(" ", _LATEX_TEXT.sub(" ", answer))))
