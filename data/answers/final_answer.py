"""The final answer of a completion, and whether it equals the reference.

In: text. Out: the answer's text, and a verdict. Each problem set states its answers in a form of its own:

- hashes: `#### 72`, as in GSM8K; the answer is what follows on the line;
- boxed: `\\boxed{72}`, as in MATH;
- phrase: `the answer is 72`, to the end of the sentence;
- last_number: the last number of the text, even if it is not meant as the answer.

Of several statements in one form the last counts. Two answers are equal if they are the same text, or the same
integer or rational number (data.answers.exact_numbers). If one is not a plain number, math-verify decides, in a process
that can be killed (data.answers.math_process). An answer in words equals only the same words.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data.answers.answer_text import plain
from data.answers.exact_numbers import MAX_LENGTH, Number, read_number
from data.answers.math_process import equivalent

_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_BOXED = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_ARGUMENT = r"\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|[^\s{}\\$]|\\[A-Za-z]+)"
_EXPRESSION = re.compile(
    rf"""\s*[-+−]?\s*(?:
        (?:\d+\s*)?\\[dtc]?frac{_ARGUMENT}{_ARGUMENT}
      | \d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+|\s+\d+/\d+)?(?:\\?%)?(?=\s|$|[.,;:!?$)\]}}]|\\[)\]])
      | (?:\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}}|\\[A-Za-z]+\s*(?=[\\{{\d(])|\\[^)\]\s]|[^\s\\${{}}])+
    )""",
    re.VERBOSE,
)
_PHRASE = re.compile(
    r"\banswer(?:\s+\w+){0,3}?\s+(?:is|equals)\b(?:\s+(?:therefore|thus|then|hence|simply|just|equal\s+to|indeed|now))*\s*:?",
    re.IGNORECASE,
)
# Phrases about an answer that do not state one.
_SAYS_NO_VALUE = re.compile(
    r"\W*(?:(?:not|in|as|that|what|whether|if|to|also|indeed|very|quite|probably|definitely|really|always|still|now"
    r"|only|so|really|either|simply)\b\s*)*(?:right|correct|wrong|incorrect|ok|okay|good|fine|clear|obvious|above|below"
    r"|here|there|found|given|known|unknown|unique|reasonable|sensible|plausible|consistent|valid|invalid|expected"
    r"|follows|easy|simple|close|off|it|this|being|based|because|called|required|needed|asked|final|done|complete"
    r"|what|in\s+the|the\s+same|the\s+one)\b(?!\s*[:=])",
    re.IGNORECASE,
)
_HOPES = re.compile(
    r"\b(?:hop(?:e|ing)|wonder\w*|whether|(?:check|see|verify|tell|know|ask)\w*\s+(?:if|what))\b[^.!?:;\n]{0,30}$",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_ABBREVIATED = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|Rev|St|Mt|Ft|Jr|Sr|No|vs|ca|approx|[A-Z]|[ap]\.m|e\.g|i\.e|U\.S))$"
)
_NUMBER = re.compile(
    r"""(?<![\w.])(?:(?<![\d)}\]])[-−])?(?:
        (?:\d+\s*)?\\[dtc]?frac\s*(?:\{[-−]?[\d.]+\}|\d)\s*(?:\{[\d.]+\}|\d)
      | \d+\s+\d+/\d+(?!\d)
      | [$€£]?(?:\d{1,3}(?:(?:,|[\u00a0\u2009\u202f]|\\,|\{,\})\d{3})+(?!\d)|\d+)
        (?:\.\d+)?(?:[eE][-+]?\d+(?!\w)|/\d+)?[½⅓⅔¼¾⅛⅜⅝⅞]?
      | \.\d+|[½⅓⅔¼¾⅛⅜⅝⅞]
    )""",
    re.VERBOSE,
)
_COMMAND = re.compile(r"\\(?:begin|end|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{2,}")
_LETTER = re.compile(r"[A-Za-z]")
_LOOSE_BLANK = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_APART = re.compile(r"(?<![_^\d.])\d[\d.]*[ '][\d.]")  # two numbers, which math-verify would multiply or join
_ABOUT = re.compile(r"\\(?:approx|sim|simeq|ldots|dots)|^~|\.\.\.|…")
_BASED = re.compile(r"^[-+]?\d[0-9A-Za-z]*_")
_ASSIGNED = re.compile(r"^(\\?[A-Za-z]+(?:_(?:\{\w+\}|\w))?)\s*=([^=]+)$")
_BRACKET = re.compile(r"\\[{}]|[()\[\]{},]")


def final_answer(text: str, forms: Sequence[str]) -> str | None:
    """The answer that a text states in the first of the forms that it uses; None if it states no answer."""
    form = form_used(text, forms)
    return None if form is None else _FORMS[form](text)


def form_used(text: str, forms: Sequence[str]) -> str | None:
    """The first of the forms in which a text states an answer."""
    return next((form for form in forms if _FORMS[form](text)), None)


def same_answer(given: str, reference: str, check: Callable[[str, str], bool] = equivalent) -> bool:
    """Whether two answers are equal. check: called as check(given, reference) if neither text nor number
    decides.
    """
    if _written(given) == _written(reference):
        return bool(plain(given))
    number, expected = read_number(given), read_number(reference)
    if number is not None and expected is not None:
        return number.equals(expected)
    if max(len(given), len(reference)) > MAX_LENGTH:
        return False
    for calculation, result, known in ((given, reference, expected), (reference, given, number)):
        if known is not None and (steps := _steps(calculation)):
            return all(same_answer(step, result, check) for step in steps)
    asked, wanted = _expression(given, number), _expression(reference, expected)
    if asked is None or wanted is None or _differ(asked, wanted):
        return False
    return check(asked, wanted)


def _hashes(text: str) -> str | None:
    found = _HASHES.findall(text)
    return found[-1].strip() if found else None


def _boxed(text: str) -> str | None:
    """The content of the last box. Its braces must balance; without braces it is the expression behind it."""
    starts = [match.end() for match in _BOXED.finditer(text)]
    if not starts:
        return None
    rest = text[starts[-1] :]
    if not rest.startswith("{"):
        return _unbraced(rest)
    depth = 0
    for mark in _BRACE.finditer(rest):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth == 0:
            return rest[1 : mark.start()].strip()
    return None


def _unbraced(text: str) -> str | None:
    """The expression that a text begins with: 12 of `12 clips`, \\frac12 of `\\frac12$.`.

    TeX would put only the first digit of 12 into the box, but \\boxed 12 means twelve.
    """
    found = _EXPRESSION.match(text)
    if found is None:
        return None
    depth, end = 0, found.end()
    for mark in _BRACKET.finditer(text, 0, end):  # a bracket that opens before the box closes behind it
        depth += {"(": 1, "[": 1, "{": 1, "\\{": 1, ",": 0}.get(mark[0], -1)
        if depth < 0:
            end = mark.start()
            break
    return text[:end].strip().rstrip(".,;:!?") or None


def _phrase(text: str) -> str | None:
    """The sentence after the last "answer is" that states anything."""
    for found in reversed(list(_PHRASE.finditer(text))):
        stated = _statement(text[found.end() :])
        if stated and not _SAYS_NO_VALUE.match(stated) and not _HOPES.search(text[: found.start()]):
            return stated
    return None


def _statement(text: str) -> str:
    """The first sentence of a text, which may begin on a later line; only the result if it is a calculation."""
    lines = (line.strip() for line in text.splitlines())
    line = next((line for line in lines if line.strip(" *$:") and line not in ("\\[", "\\(", "```")), "")
    ends = (end for end in _SENTENCE_END.finditer(line) if not _ABBREVIATED.search(line[: end.start()]))
    end = next(ends, None)
    sentence = (line[: end.start()] if end else line).strip()
    if sentence.count("**") % 2:  # bold type that began before the answer
        sentence = sentence.replace("**", "", 1).strip()
    steps = sentence.split("=")
    is_calculation = len(steps) > 1 and re.search(r"\d", steps[0]) and "\\boxed" not in sentence
    return (steps[-1] if is_calculation else sentence).strip()


def _last_number(text: str) -> str | None:
    found = [match[0] for match in _NUMBER.finditer(text)]
    return found[-1] if found else None


_FORMS: Mapping[str, Callable[[str], str | None]] = {
    "hashes": _hashes,
    "boxed": _boxed,
    "phrase": _phrase,
    "last_number": _last_number,
}


def _written(answer: str) -> str:
    """The text to compare; answers in words are compared without case."""
    text = _LOOSE_BLANK.sub("", plain(answer))
    words = re.fullmatch(r"[A-Za-z' -]+", text) and re.search(r"[A-Za-z]{3}|^(?i:yes|no)$", text)
    return text.lower() if words else text


def _expression(answer: str, number: Number | None) -> str | None:
    """The text for math-verify; None if it would ignore something that matters."""
    if number is not None and number.base is None and number.otherwise is None and number.name is None:
        return str(number.value)  # without its unit
    text = plain(answer)
    is_no_formula = _has_words(text) or _APART.search(text) or _ABOUT.search(text) or _BASED.search(text)
    return None if is_no_formula else text


def _steps(answer: str) -> list[str]:
    """The sides of a calculation, 24 + 12 = 36, which is right where all of them are."""
    text = plain(answer)
    is_calculation = "=" in text and not _has_letters(text)
    return text.split("=") if is_calculation else []


def _differ(given: str, reference: str) -> bool:
    """Whether two formulas certainly differ although math-verify finds them equal."""
    if given.isalpha() and reference.isalpha():  # it takes choice A for the variable a
        return True
    one, other = _ASSIGNED.match(given), _ASSIGNED.match(reference)
    if one and other and one[1] != other[1] and not _has_letters(one[2] + other[2]):
        return True  # x = 5 and y = 5
    kinds, expected = _lists(given), _lists(reference)
    return bool(kinds - expected and expected - kinds)


def _lists(text: str) -> Counter[str]:
    """The kinds of brackets around a comma: points, sets and intervals differ."""
    kinds: Counter[str] = Counter()
    opened: list[list[Any]] = []
    for mark in _BRACKET.findall(text):
        if mark == ",":
            if opened:
                opened[-1][1] = True
        elif mark in ("(", "[", "\\{", "{"):
            opened.append([mark, False])
        elif opened:
            opening, has_comma = opened.pop()
            if has_comma and opening != "{":
                kinds[opening + mark] += 1
    return kinds


def _has_letters(text: str) -> bool:
    """Whether there are letters outside of LaTeX's commands: variables."""
    return bool(_LETTER.search(_COMMAND.sub("", text)))


def _has_words(text: str) -> bool:
    """Whether there is plain language outside of LaTeX's commands, which math-verify would skip over."""
    return bool(_WORD.search(_COMMAND.sub(" ", text)))
