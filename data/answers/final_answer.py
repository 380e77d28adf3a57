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
from fractions import Fraction
from typing import Any

from data.answers.answer_text import plain
from data.answers.exact_numbers import MAX_LENGTH, Number, read_number
from data.answers.math_process import equivalent
from data.answers.unit_words import COIN, Ending, read_ending

MAX_TEXT = 4 * MAX_LENGTH  # characters of an answer that is not only compared as text

_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_BOXED = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_ARGUMENT = r"\s*(?:\{(?:[^{}]|\{[^{}]*\})*\}|[^\s{}\\$]|\\[A-Za-z]+)"
_BRACKETED = r"(?:\\\{|[(\[])[^()\[\]{}$\n]*(?:\\\}|[)\]])"
_EXPRESSION = re.compile(
    rf"""\s*[-+−]?\s*(?:
        (?:\d+\s*)?\\[dtc]?frac{_ARGUMENT}{_ARGUMENT}
      | \d{{1,2}}:\d\d(?:\s*[AaPp]\.?[Mm]\b\.?)?
      | (?>\d{{1,3}}(?:[ ]\d{{3}})+(?!\d)|\d[\d,]*)(?:\.\d+)?(?:\s*/\s*\d+|\s+\d+/\d+)?(?:\\?%)?
        (?=\s|$|[.,;:!?](?!\d)|[$)\]}}]|\\[)\]])
      | (?:{_BRACKETED}|\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}}|\\[A-Za-z]+\s*(?=[\\{{\d(])|\\[^)\]\s]|[^\s\\${{}}])+
    )(?:\s*(?:[-+*/=^<>]|\\(?:times|cdot|div|pm|[lg]eq?|approx)\b)\s*[-+−]?[\\\d({{][^\s$]*)*""",
    re.VERBOSE,
)
_PHRASE = re.compile(
    r"\banswer(?:\s+\w+){0,3}?\s+(?:is|equals)\b(?:,?\s+(?:therefore|thus|then|hence|simply|just|equal\s+to|indeed|now|also|exactly|precisely"
    r"|clearly|obviously|again|given\s+by)\b,?)*\s*(?:(?:as\s+follows|(?:the\s+)?following|below|here)\s*(?=:))?:?",
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
# What is said of an answer that was stated before.
_DESCRIBES = re.compile(
    r"\W*(?:(?:in|to|for|an?|the|always|also|indeed|rounded|of\s+course|only|just|already)\b\s*)*(?:positive|negative|rounded"
    r"|exact|approximate|integer|integral|whole|dollars?|cents|units?|hours|minutes|seconds|days|number|fraction|decimal"
    r"|percent\w*|terms|simplest|simplified|lowest|nearest|form|full|short|rest|reason\w*|logical|true|false|sure"
    r"|certain|confirmed|verified|checked|supported|obtained|derived|calculated|computed|stated|written|boxed)\b(?![^.!?\n]*\d)",
    re.IGNORECASE,
)
_SUPPOSES = re.compile(r"\b(?:if|unless|suppos\w+|assum\w+|imagine|were)(?:\s+\w+){0,2}\s+$", re.IGNORECASE)
_HOPES = re.compile(
    r"\b(?:hop(?:e|ing)|wonder\w*|whether|(?:check|see|verify|tell|know|ask)\w*\s+(?:if|what))\b[^.!?:;\n]{0,30}$",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_ABBREVIATED = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|Rev|St|Mt|Ft|Jr|Sr|No|vs|ca|approx|[A-Z]|[ap]\.m|e\.g|i\.e|U\.S))$"
)
_SHORT_UNIT = re.compile(
    r"(?:\d\s*|\bper\s+|\b(?:sq|cu)\.?\s+)(?:sq|cu|ft|in|yd|mi|lbs?|oz|gal|qt|pt|hrs?|mins?|secs?|doz|km|cm|mm|kg)$"
)
_CHOICE = re.compile(r"\W*[A-H]")
_MAX_LEAD = 60  # characters before a phrase or a full stop that matter
_NUMBER = re.compile(
    r"""(?<![\w.^])(?<!\^\{)(?<!\^[-−])(?<!\^\{[-−])(?:(?<![\d)}\]])[-−])?(?:
        (?:\d+\s*)?\\[dtc]?frac\s*(?:\{[-−]?[\d.]+\}|\d)\s*(?:\{[\d.]+\}|\d)
      | \d+\s+\d+/\d+(?!\d)
      | \d{1,2}:[0-5]\d(?!\d)(?:\s*[AaPp]\.?[Mm]\b\.?)?
      | \d*\.\d*(?:\\(?:overline|bar|dot)\s*\{?\d+\}?|\(\d+\))
      | (?:\d+(?:\.\d+)?\s*(?:\\times|\\cdot|[×*x])\s*)?\d+\s*\^\s*(?:\{[-+−]?\d+\}|\d+)
      | [$€£]?(?:\d{1,3}(?:(?:[,'\ ]|[\u00a0\u2009\u202f]|\\,|\{,\})\d{3})+(?!\d)|\d+)
        (?:\.\d+)?(?:[eE][-+]?\d+(?!\w)|/\d+)?[½⅓⅔¼¾⅛⅜⅝⅞]?
      | \.\d+|[½⅓⅔¼¾⅛⅜⅝⅞]
    )""",
    re.VERBOSE,
)
_COMMAND = re.compile(r"\\(?:begin|end|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{2,}")
_SHORT_WORDS = frozenset(  # others are products of variables
    "or to of in is no at by as an am pm if so we he it me my us go do on be not and the for but off out per all any"
    " one two six ten are was few via nor yet mod max min odd set sum mid old new day hr km cm mm kg mg ml ft lb oz mi"
    " yd".split()
)
_UNIT = re.compile(r"(.*(?:[\d})]|\\[A-Za-z]+))\s+([A-Za-z]{2}[A-Za-z /^{}0-9.-]*)")
_LIST = re.compile(r"\[([^()\[\]]*,[^()\[\]]*)\]")
_LETTER = re.compile(r"[A-Za-z]")
_LOOSE_BLANK = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_APART = re.compile(r"(?<![_^\d.])\d[\d.]*[ '][\d.]")  # two numbers, which math-verify would multiply or join
_ABOUT = re.compile(r"\\(?:approx|sim|simeq|ldots|dots)|^~|\.\.\.|…")
_BASED = re.compile(r"^[-+]?\d[0-9A-Za-z]*_")
_MONEY = re.compile(COIN)
_CLOCK = re.compile(r"^\d+:0\d")
_TIMES = re.compile(r"(?<=\d)\s+x\s+(?=\d)")
_NAMED = re.compile(r"^\\?[A-Za-z]+(?:_(?:\{\w+\}|\w))?'*(?:\([^()=]*\))?\s*(?:=|\\in\b)\s*|=\s*\\?[A-Za-z](?:_\w)?$")
_NAMES = re.compile(r"(?:^|,)\s*\\?[A-Za-z]\s*=")
_RELATION = re.compile(r"=|\\in\b")
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
    if max(len(given), len(reference)) > MAX_TEXT:
        return given.split() == reference.split()
    number, expected = read_number(given), read_number(reference)
    if (number is None) == (expected is None) and _written(given) == _written(reference):
        return bool(plain(given))
    if number is not None and expected is not None:
        return number.equals(expected)
    if max(len(given), len(reference)) > MAX_LENGTH:
        return False
    for calculation, result in ((given, reference), (reference, given)):
        if "=" not in result and (steps := _steps(calculation)):
            return all(same_answer(step, result, check) for step in steps)
    for one, other in ((given, reference), (reference, given)):
        if _is_bare_list(other) and (listed := _LIST.fullmatch(plain(one))):  # [1,2] is an interval to math-verify
            return same_answer(f"({listed[1]})", f"({plain(other)})", check)
    asked, wanted = _formula(given, number), _formula(reference, expected)
    if asked is None or wanted is None or not asked[1].agrees(wanted[1]) or _differ(asked[0], wanted[0]):
        return False
    return check(asked[0], wanted[0])


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
    described = None
    for found in reversed(list(_PHRASE.finditer(text))):
        stated, start = _statement(text[found.end() :]), max(0, found.start() - _MAX_LEAD)
        if (
            not stated
            or _SAYS_NO_VALUE.match(stated)
            or any(lead.search(text, start, found.start()) for lead in (_HOPES, _SUPPOSES))
        ):
            continue
        if not _DESCRIBES.match(stated):
            return stated
        described = described or stated
    return described


def _statement(text: str) -> str:
    """The first sentence of a text, which may begin on a later line; only the result if it is a calculation."""
    lines = (line.strip() for line in text.splitlines())
    line = next((line for line in lines if line.strip(" *$:") and line not in ("\\[", "\\(", "```")), "")
    end = next((end for end in _SENTENCE_END.finditer(line) if not _is_abbreviation(line, end.start())), None)
    sentence = (line[: end.start()] if end else line).strip()
    if sentence.count("**") % 2:  # bold type that began before the answer
        sentence = sentence.replace("**", "", 1).strip()
    steps = sentence.split("=")
    is_calculation = len(steps) > 1 and re.search(r"\d", steps[0]) and "\\boxed" not in sentence
    return (steps[-1] if is_calculation else sentence).strip()


def _is_abbreviation(line: str, place: int) -> bool:
    """Whether the full stop here ends a short form, as in Mr. Smith and 5 ft. 3 in., but not choice A."""
    if _CHOICE.fullmatch(line, 0, place):
        return False
    start = max(0, place - _MAX_LEAD)
    goes_on = re.match(r"\.\s+[a-z\d]", line[place : place + 10])
    return bool(_ABBREVIATED.search(line, start, place) or (goes_on and _SHORT_UNIT.search(line, start, place)))


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


def _formula(answer: str, number: Number | None) -> tuple[str, Ending] | None:
    """The text for math-verify, and the unit; None if it would ignore something that matters."""
    if number is not None and number.base is None and number.otherwise is None and number.name is None:
        return str(number.value), number.ending
    text, unit = plain(answer), Ending()
    if found := _UNIT.fullmatch(text):  # 2\pi cm
        ending = read_ending(f" {found[2]}", Fraction(2))
        if ending is not None and ending.factor == 1 and ending.scale is None:
            text, unit = found[1], ending
    is_no_formula = _has_words(text) or any(sign.search(text) for sign in (_APART, _ABOUT, _BASED, _MONEY, _CLOCK))
    return None if is_no_formula else (text, unit)


def _is_bare_list(text: str) -> bool:
    return "," in text and not re.search(r"[()\[\]]|\\[{}]", plain(text))


def _steps(answer: str) -> list[str]:
    """The sides of a calculation, 24 + 12 = 36, which is right where all of them are."""
    text = _TIMES.sub(r"\\times ", plain(answer))
    text = _NAMED.sub("", text) if text.count("=") > 1 else text
    is_calculation = "=" in text and not _has_letters(text)
    return text.split("=") if is_calculation else []


def _differ(given: str, reference: str) -> bool:
    """Whether two formulas certainly differ although math-verify finds them equal."""
    if given.isalpha() and reference.isalpha():  # it takes choice A for the variable a
        return True
    if ("=" in given) != ("=" in reference) and not _NAMED.search(given if "=" in given else reference):
        return True  # 2x = 10 and 10
    named = bool(_RELATION.search(given)) == bool(_RELATION.search(reference))
    if not re.search(r"[<>]|\\[gl]eq?", given + reference) and _variables(given, named) != _variables(reference, named):
        return True  # 36t and 36: it takes t for tonnes
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


def _variables(text: str, with_name: bool) -> set[str]:
    """The letters of a formula that are no constants, with or without the name of its value."""
    formula = text if with_name else _NAMES.sub("", _NAMED.sub("", text))
    return set(_LETTER.findall(_COMMAND.sub("", formula))) - {"e", "i"}


def _has_letters(text: str) -> bool:
    """Whether there are letters outside of LaTeX's commands: variables."""
    return bool(_LETTER.search(_COMMAND.sub("", text)))


def _has_words(text: str) -> bool:
    """Whether there is plain language outside of LaTeX's commands, which math-verify would skip over."""
    return any(len(word) > 3 or word in _SHORT_WORDS for word in _WORD.findall(_COMMAND.sub(" ", text).lower()))
