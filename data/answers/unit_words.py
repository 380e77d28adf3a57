"""The words after a number: the factor and the unit that they name.

In: the text after a number. Out: an `Ending`, or None if the words could change the value or are not a unit. Any noun
can be a unit, so only the rest is listed: scale words, which always multiply; fractions in words; measures, which two
answers must share if both name one; and words that change, doubt or deny a value, which make it no answer.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

_SCALES: Mapping[str, int] = {
    "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15,
    "mil": 10**6, "mln": 10**6, "bn": 10**9, "bln": 10**9, "lakh": 10**5, "crore": 10**7,
}  # fmt: skip
_PARTS: Mapping[str, int] = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "sixteenth": 16, "twentieth": 20, "hundredth": 100,
    "thousandth": 1000, "millionth": 10**6,
}  # fmt: skip
_SPELLINGS = {  # of measures; a plural is its singular
    "dollar": "$ usd us$ dollar buck", "euro": "€ eur euro", "pound sterling": "£ gbp quid", "yen": "¥ jpy yen",
    "rupee": "₹ inr rs rupee", "cent": "cent cts penny pence", "percent": "percent pct", "degree": "degree deg",
    "radian": "radian rad", "millimetre": "mm millimetre millimeter", "centimetre": "cm centimetre centimeter",
    "metre": "metre meter", "kilometre": "km kilometre kilometer", "inch": "inch", "foot": "ft foot feet",
    "yard": "yd yard", "mile": "mi mile", "milligram": "mg milligram", "gram": "gm gram gramme",
    "kilogram": "kg kilogram kilo", "tonne": "tonne", "ton": "ton", "ounce": "oz ounce", "pound": "lb pound",
    "millilitre": "ml millilitre milliliter", "litre": "litre liter", "pint": "pt pint", "quart": "qt quart",
    "gallon": "gal gallon", "cup": "cup", "millisecond": "ms millisecond", "second": "sec second",
    "minute": "min minute", "hour": "hr hour", "day": "day", "week": "wk week", "month": "month", "year": "yr year",
    "unit": "unit", "newton": "newton", "joule": "joule", "watt": "kw watt",
    "volt": "volt",
    "hertz": "hz hertz", "gigabyte": "gb gigabyte", "megabyte": "mb megabyte", "kilobyte": "kb kilobyte",
}  # fmt: skip
_MEASURES = {word: measure for measure, words in _SPELLINGS.items() for word in words.split()}
# Words that distinguish equal numbers: 5 AM is not 5 PM.
_SIDES = frozenset("am pm noon midnight bc bce ad ce north south east west celsius fahrenheit kelvin".split())
_SHORT = frozenset("of an to at by a per on up in as he we it my go us".split())
_LETTERS: Mapping[str, str] = {"m": "metre", "s": "second", "h": "hour", "g": "gram", "l": "litre"}  # of m/s and km/h
_AFTER_DEGREES: Mapping[str, str] = {"c": "celsius", "f": "fahrenheit", "k": "kelvin"}
_NUMBERS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety".split()
)
# Never part of a unit: they change, doubt or deny the value, or introduce another one.
_NO_UNIT = frozenset(
    "plus minus squared cubed divided multiplied factorial power powers exponent root sqrt sin cos tan log mod modulo"
    " modulus choose base binary octal hex hexadecimal reciprocal inverse negative below score gross grand double"
    " doubled twice triple tripled thrice quadruple halved ppm permille not never nor neither either but however"
    " although though instead rather wait oops sorry actually correction except unless until without versus if then"
    " else maybe perhaps possibly probably likely unlikely presumably supposedly allegedly hopefully approx"
    " approximately roughly nearly almost circa ish so something somewhat unsure uncertain doubtful guess guessed"
    " guessing assume assuming suppose wrong wrongly incorrect incorrectly false falsely invalid untrue inaccurate"
    " mistake mistaken mistakenly error erroneous bogus fake nonsense impossible undefined unknown indeterminate nope"
    " nah rejected discarded cancelled retracted contradiction least most maximum minimum would could should might may"
    " must can cannot isn't wasn't aren't ain't don't doesn't can't won't".split()
)
_NOT_FIRST = frozenset("and over a an to by of at up as he we it my about around".split())  # 5 over x; but 5 left over
_NOT_LAST = frozenset(("and", "about", "around"))
_NOT_AFTER_AND = frozenset("some more change counting up over".split())
_WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*'?|[$€£¥₹]|us\$")
_POWER = re.compile(r"([a-z]+)\s*\^\s*\{?\s*([23])\s*\}?|(square|sq|cubic|cu)\.? ([a-z]+)|([a-z]+) (squared|cubed)")
_MAX_WORDS = 12  # of a unit, such as dollars per hour of work in the first week


@dataclass(frozen=True)
class Ending:
    """The words after a number."""

    factor: Fraction = Fraction(1)
    scale: str | None = None  # dozen or percent: the number may be meant without its factor
    words: frozenset[str] = frozenset()  # of the unit, in the singular
    measures: frozenset[str] = frozenset()
    sides: frozenset[str] = frozenset()

    def agrees(self, other: "Ending") -> bool:
        """Whether the units may be the same: one is missing, or they share their measures or a word."""
        if self.sides and other.sides and self.sides != other.sides:
            return False
        if not self.words or not other.words:
            return True
        if self.measures or other.measures:
            return self.measures == other.measures
        return bool(self.words & other.words)

    def with_money(self, sign: str) -> "Ending":
        """The same after an amount with a currency before it, such as US$ or EUR."""
        money = frozenset(("dollar",)) if "$" in sign else frozenset((_MEASURES[sign.lower().rstrip(".")],))
        return replace(self, words=self.words | money, measures=self.measures | money)


def read_ending(text: str, value: Fraction) -> Ending | None:
    """The ending of a number with this value; None if it is not a unit."""
    if not text.strip():
        return Ending()
    if re.match(r"\s*[A-Za-z](?![A-Za-z/$.])", text) and not re.match(r"\s+[hg]\b", text):
        return None  # 5x, 5 m: a variable as well as a unit
    words = _words(text)
    if words is None or len(words) > _MAX_WORDS:
        return None
    factor, scale = Fraction(1), None
    while words and _singular(words[0]) in (*_SCALES, "dozen"):
        word = _singular(words.pop(0))
        factor *= _SCALES.get(word, 12)
        scale = "dozen" if word == "dozen" else scale
    if factor == 1 and words and (part := _part(words[0], value)) is not None:
        factor /= part
        words.pop(0)
    elif words and words[0] == "quarters" and abs(value) >= 4:  # they are coins
        words[0] = "quarter-dollars"
    elif factor == 1 and words and words[0] in ("percent", "pct", "percentage"):
        factor, scale = Fraction(1, 100), "percent"
    if len(words) > 1 and words[0] in ("a", "an") and _singular(words[1]) in _MEASURES:  # 36 a week
        words[0] = "per"
    if words and ((words[0] in _NOT_FIRST and factor == 1) or words[-1] in _NOT_LAST):
        return None
    if not all(_may_stand(word, word is words[-1]) for word in words) or any(
        before == "and" and after in _NOT_AFTER_AND for before, after in pairwise(words)
    ):
        return None
    return _ending(factor, scale, words)


def _words(text: str) -> list[str] | None:
    """The words in small letters, a power in one word with its unit; None if there is anything but words."""
    text = text.lower() if " May" not in text else text.replace(" May", " mai").lower()
    text = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", text)
    text = re.sub(r"(?<=[a-z])\.(?=\s|$)|[()]|,(?=\s)", "", text).replace("per cent", "percent")
    text = text.replace("%", " percent ")
    text = _POWER.sub(_as_one_word, re.sub(r"\b(sq\.?|square|cubic) in\b|\bin(?=\s*\^)", r"\1 inch", text))
    text = re.sub(r"\bdegrees? ([cfk])\b", lambda found: f"degrees {_AFTER_DEGREES[found[1]]}", text)
    if re.match(r"\s*[mg]\s*/\s*[a-z]", text):
        text = f"{_LETTERS[text.strip()[0]]} {text.strip()[1:]}"
    text = re.sub(r"\s*/\s*([a-z])\b", lambda found: f" per {_LETTERS.get(found[1], found[1])}", text)
    text = re.sub(r"\s*/\s*", " per ", text)
    text = re.sub(r"^\s*([hg])\b", lambda found: _LETTERS[found[1]], text)
    text = re.sub(r"(us\$|[$€£¥₹])", r" \1 ", text)
    text = re.sub(r"\bmph\b", "miles per hour", re.sub(r"\bkm?ph\b|\bkmh\b", "km per hour", text))
    words = re.sub(r"^\s*in(?=\s*$|\s+per\b)", "inch", text).split()
    return words if all(_WORD.fullmatch(word) for word in words) else None


def _as_one_word(found: re.Match[str]) -> str:
    unit, power, kind, named, raised, word = found.groups()
    cubic = power == "3" or kind in ("cubic", "cu") or word == "cubed"
    name = unit or named or raised
    if _singular(name) not in _MEASURES and name not in _LETTERS:
        return found[0]
    return f"{'cubic' if cubic else 'square'}-{_MEASURES.get(_singular(name)) or _LETTERS[name]}"


def _may_stand(word: str, is_last: bool) -> bool:
    """Whether a word may be part of a unit."""
    if word in _PARTS and word not in ("half", "quarter") and not is_last:
        return True  # 4 fourth graders
    if word in _NO_UNIT or word in _NUMBERS or _singular(word) in _SCALES:
        return False
    if len(word) > 2 or word in _SHORT or word in _MEASURES or word in _SIDES:
        return not all(part in _NUMBERS or _singular(part) in _PARTS for part in word.split("-"))
    return False


def _part(word: str, value: Fraction) -> int | None:
    """The denominator that a word names: 3 fifths and 1 half, but not 2 fourth graders; 4 quarters are coins."""
    part = _PARTS.get(_singular(word))
    is_one = value in (1, -1)
    if part is None or (word == _singular(word)) != is_one or (word == "quarters" and abs(value) >= 4):
        return None
    return part


def _ending(factor: Fraction, scale: str | None, words: list[str]) -> Ending:
    content = frozenset(_singular(word) for word in words if word not in _SHORT and word not in ("per", "and", "the"))
    measures = frozenset(
        measure
        for word in content
        if (measure := _MEASURES.get(word) or (word if word.startswith(("square-", "cubic-")) else None))
    )
    sides = content & _SIDES
    return Ending(factor, scale, content - sides, measures, sides)


def _singular(word: str) -> str:
    if word in ("halves", "feet", "inches", "pennies", "centuries"):
        return {"halves": "halve", "inches": "inch", "pennies": "penny", "centuries": "century"}.get(word, word)
    return word[:-1] if word.endswith("s") and len(word) > 2 and not word.endswith(("ss", "us", "is")) else word
