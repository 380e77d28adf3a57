"""The exact value of an answer written as a number: 1,234.50, \\frac{2469}{2}, 1 1/2, $5, 50\\%, 18 dollars per hour.

In: the text of an answer. Out: a `Fraction`, or None where the text is no plain number. Nothing is rounded and nothing
is computed but a sign, a fraction and a scale word (3 million), so no text costs more than its length. A per cent sign
and a unit are dropped: GSM8K's references have none. Words that change a value (half, squared, or) make it no number.
"""

import re
from fractions import Fraction

MAX_LENGTH = 200  # characters of an answer that is read as a number

_SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_VALUE = re.compile(
    rf"""(?P<sign>[-+]?)\s*(?:
        (?P<whole>{_DIGITS})\s*\\frac\s*\{{\s*(?P<top>{_DIGITS})\s*\}}\s*\{{\s*(?P<bottom>{_DIGITS})\s*\}}
      | (?P<whole_>{_DIGITS})\s+(?P<top_>{_DIGITS})\s*/\s*(?P<bottom_>{_DIGITS})
      | \\frac\s*\{{\s*(?P<numerator>[-+]?\s*{_DECIMAL})\s*\}}\s*\{{\s*(?P<denominator>[-+]?\s*{_DECIMAL})\s*\}}
      | (?P<numerator_>{_DECIMAL})\s*/\s*(?P<denominator_>{_DECIMAL})
      | (?P<decimal>{_DECIMAL})
    )""",
    re.VERBOSE,
)
_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|textit)\s*\{([^{}]*)\}")
_SHORT_FRACTION = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|(\d))\s*(?:\{([^{}]*)\}|(\d))")
_BLANKS = re.compile(r"\\[!,;: ]|\\q?quad|~|\s+")
_REWRITTEN = (  # plain text first, then what replaces it
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("\\cfrac", "\\frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("\\$", "$"),
    ("\\%", "%"),
    ("{,}", ","),
    ("^{\\circ}", " degrees"),
    ("^\\circ", " degrees"),
    ("\\degree", " degrees"),
    ("°", " degrees"),
    ("−", "-"),
    ("–", "-"),
)
_UNIT = re.compile(r"[A-Za-z]+\.?(?:\^\{?[23]\}?|[²³])?")
# Of one or two letters a unit is one of these: xy, m and k could as well be variables.
_SHORT_UNITS = frozenset("cm mm km kg mg ml ft in lb oz hr am pm mi of an to".split())
_CHANGES_THE_VALUE = frozenset(
    "half third thirds quarter quarters fourth fourths fifth tenth tenths and minus plus times squared cubed over"
    " divided multiplied not wrong sin cos tan log mod sqrt score ten twenty thirty forty fifty sixty seventy eighty"
    " ninety one two three four five six seven eight nine eleven twelve".split()
)
_MAX_WORDS = 8  # of a unit, such as dollars per hour of work


def plain(text: str) -> str:
    """An answer without the ways of writing that change no value: blanks, dollars, \\text, \\left, kinds of \\frac."""
    for written, meant in _REWRITTEN:
        text = text.replace(written, meant)
    text = _BLANKS.sub(" ", _TEXT.sub(r" \1 ", _BLANKS.sub(_thin, text))).replace(" ^", "^").strip()
    text = text.removeprefix("\\(").removesuffix("\\)").removeprefix("\\[").removesuffix("\\]")
    return text.replace("$", "").lstrip(" *").rstrip(" *.")


def exact_value(text: str) -> Fraction | None:
    """The number that the text states, in any of the usual renderings, or None."""
    if len(text) > MAX_LENGTH:
        return None
    text = re.sub(r"^(?:[A-Za-z]\s*=|=)\s*", "", plain(text))
    text = re.sub(r"^([-+]?)\s*[€£]\s*", r"\1", text)
    text = _SHORT_FRACTION.sub(lambda m: f"\\frac{{{m[1] or m[2]}}}{{{m[3] or m[4]}}}", text)
    found = _VALUE.match(text)
    scale = _scale(text[found.end() :]) if found else None
    if found is None or scale is None:
        return None
    whole = found["whole"] or found["whole_"] or "0"
    top = found["top"] or found["top_"] or found["numerator"] or found["numerator_"] or found["decimal"]
    bottom = found["bottom"] or found["bottom_"] or found["denominator"] or found["denominator_"] or "1"
    if _number(bottom) == 0:
        return None
    value = (_number(whole) + _number(top) / _number(bottom)) * scale
    return -value if found["sign"] == "-" else value


def _number(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").replace(" ", "").removesuffix("."))


def _scale(ending: str) -> int | None:
    """What the words behind a number multiply it by, or None where they do not merely name a unit."""
    words = ending.replace("%", " percent ").replace("/", " per ").split()
    scale = 1
    while words and words[0].lower() in _SCALES:
        scale *= _SCALES[words.pop(0).lower()]
    are_units = len(words) <= _MAX_WORDS and all(map(_is_unit, words))
    starts_apart = not ending[:1].isalpha() or len(ending.split()[0]) > 1
    return scale if are_units and starts_apart else None


def _is_unit(word: str) -> bool:
    word = word.rstrip(",")
    letters = re.sub(r"[^a-z]", "", word.lower())
    long_enough = len(letters) > 2 or letters in _SHORT_UNITS
    unknown = letters in _CHANGES_THE_VALUE or letters in _SCALES
    return bool(_UNIT.fullmatch(word)) and long_enough and not unknown


def _thin(blank: re.Match) -> str:
    """A blank of TeX between digits parts thousands; white space is one blank."""
    return "" if blank[0] in ("\\!", "\\,") else " "
