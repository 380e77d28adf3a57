"""The exact value of an answer written as a number: 1,234.50, \\frac{2469}{2}, 1 1/2, ½, 1e3, $5, 50\\%, 18 dollars.

In: the text of an answer. Out: a `Number` with an exact value, its unit and the name before an
equals sign; or None if the text is not a plain number. Nothing is rounded, and only a sign, a fraction, a power of ten
and a scale word (3 million) are computed, so the cost is bounded by the text's length.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from data.answers.answer_text import plain
from data.answers.unit_words import COIN, Ending, read_ending

MAX_LENGTH = 200  # characters of an answer that is read as a number
MAX_EXPONENT = 400  # of a power of ten: more than any float has

# Thousands are parted by one sign in groups of three: 1,234,567 or 1 234 567 or 1'234'567. 0,500 is half for some.
_PARTED = "|".join(rf"[1-9]\d{{0,2}}(?:{sign}\d{{3}})+(?!\d|{sign}\d)" for sign in (",", "[ ]", "'"))
_DIGITS = rf"(?:{_PARTED}|\d+)"
_SOLID = r"(?:[1-9]\d{0,2}(?:,\d{3})+(?![\d,])|\d+)"  # of a mixed number, whose blank has a meaning
_POWER_OF_TEN = r"""(?:[eE](?P<e>[-+]?\d{1,4})(?![\w.])
          |\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{\s*(?P<tens>[-+]?\d{1,4})\s*\}|(?P<tens_>\d)))"""
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_SIGN = r"(?:[-+]|(?i:negative|minus)\b)"
_CURRENCY = (
    rf"(?:(?i:{COIN})|(?:USD|EUR|GBP|JPY|INR|CAD|AUD|NZD|HKD|SGD|CHF|CNY|RMB|KRW|RUB|ILS|BRL)(?![A-Za-z])|Rs\.?)"
)
_VALUE = re.compile(
    rf"""(?P<sign>{_SIGN})?\s*(?P<money>{_CURRENCY})?\s*(?P<sign_>[-+])?\s*(?:
        (?P<whole>{_SOLID})\s*(?:and\s*)?\\frac\{{\s*(?P<top>{_SOLID})\s*\}}\{{\s*(?P<bottom>{_SOLID})\s*\}}
      | (?P<whole_>{_SOLID})\s+(?:and\s+)?(?P<top_>\d+)\s*/\s*(?P<bottom_>\d+)
      | \\frac\{{\s*(?P<numerator>[-+]?\s*{_DECIMAL})\s*\}}\{{\s*(?P<denominator>[-+]?\s*{_DECIMAL})\s*\}}
      | (?P<numerator_>{_DECIMAL})\s*/\s*(?P<denominator_>{_DECIMAL})
      | (?P<before>\d*)\.(?P<fixed>\d*)(?:\\(?:overline|bar|dot)\s*(?:\{{\s*(?P<repeated>\d+)\s*\}}|(?P<repeated__>\d))
          |\((?P<repeated_>\d+)\))
      | 10\s*\^\s*(?:\{{\s*(?P<power>[-+]?\d{{1,4}})\s*\}}|(?P<power_>\d))
      | (?P<decimal>{_DECIMAL}){_POWER_OF_TEN}?
    )""",
    re.VERBOSE,
)
_USUAL = re.compile(rf"[-+]?{_SOLID}(?:\.\d+)?")
_NAME = re.compile(r"^(\\?[A-Za-z][A-Za-z ]{0,30}(?:_(?:\{\w+\}|\w))?(?:\(\w\))?)?\s*(?:=|:(?!\d))\s*")
_BEHIND = re.compile(r"^([^=]+?)\s*=\s*(\\?[A-Za-z]+(?:_(?:\{\w+\}|\w))?)$")  # 5 = x
_ORDINAL = re.compile(r"^\s?(?:st|nd|rd|th)\b", re.IGNORECASE)
_CLOCK = re.compile(r"^(\d{1,2}):([0-5]\d)(?:\s*([ap])\.?\s?m\b\.?)?$", re.IGNORECASE)
_BASED = re.compile(r"^[-+]?[0-9A-Za-z]*\d[0-9A-Za-z]*(?=_\{(\d{1,2})\}$)|^[-+]?[A-Fa-f]{2,}(?=_\{(16)\}$)")
_NO_NAME = frozenset(("answer", "ans", "the answer", "final answer", "the final answer", "result"))


@dataclass(frozen=True)
class Number:
    """An answer that is a plain number."""

    value: Fraction
    ending: Ending = field(default_factory=Ending)
    name: str | None = None  # x of x = 5
    otherwise: Fraction | None = None  # how a bare number may state the same: 8 of 8 dozen, 1/2 of 50 %
    base: int | None = None  # of its digits, if it is written with one

    @property
    def is_bare(self) -> bool:
        return not self.ending.words and self.ending.scale is None

    def equals(self, other: "Number") -> bool:
        """Whether both are one answer; see the table in docs/data.md."""
        if self.base != other.base or (self.name and other.name and self.name != other.name):
            return False
        if not self.ending.agrees(other.ending):
            return False
        if self.value == other.value:
            return True
        return (self.is_bare and self.value == other.otherwise) or (other.is_bare and other.value == self.otherwise)


def exact_value(text: str) -> Fraction | None:
    """The number that a text states in any of the usual renderings, or None."""
    found = read_number(text)
    return None if found is None or found.base is not None else found.value


@lru_cache(maxsize=2**14)
def read_number(text: str) -> Number | None:
    """The text as a plain number, or None."""
    if len(text) > MAX_LENGTH:
        return None
    text = plain(text)
    if _USUAL.fullmatch(text):
        return Number(Fraction(text.replace(",", "")))
    behind = _BEHIND.match(text)
    if behind:
        text = f"{behind[2]} = {behind[1]}"
    named = _NAME.match(text)
    name = " ".join((named[1] or "").split()) if named else ""
    name = "" if name.lower() in _NO_NAME else re.sub("[{}]", "", name)
    text = text[named.end() :].strip() if named else text
    found = _based(text) or _clock(text) or _decimal(text)
    return found and Number(found.value, found.ending, name or None, found.otherwise, found.base)


def _decimal(text: str) -> Number | None:
    found = _VALUE.match(text)
    value = _value_of(found) if found else None
    if found is None or value is None or (found["sign"] and found["sign_"]):
        return None
    rest = text[found.end() :]
    ordinal = _ORDINAL.match(rest)
    if ordinal and (found["decimal"] or found["numerator_"]):
        rest = rest[ordinal.end() :]
    ending = None if re.match(r"[.,'\d]", rest) else read_ending(rest, value)
    if ending is None:
        return None
    if found["money"] and ("cent" in ending.measures or re.match(r"\s*(?!a\b)[A-Za-z]\b", rest)):
        return None  # $36 cents, $3m
    if found["money"]:
        ending = ending.with_money(found["money"])
    if found["sign"] not in (None, "+") or found["sign_"] == "-":
        value = -value
    match ending.scale:
        case "dozen":
            return Number(value * ending.factor, ending, otherwise=value * ending.factor / 12)
        case "percent":
            return Number(value, ending, otherwise=value * ending.factor)
    return Number(value * ending.factor, ending)


def _value_of(found: re.Match[str]) -> Fraction | None:
    """The value without its sign."""
    group = _first_of(found)
    if found["fixed"] is not None:
        return _repeating(group("before"), group("fixed"), group("repeated", "repeated_", "repeated__"))
    if power := group("power", "power_"):
        return _ten_to(power)
    if decimal := group("decimal"):
        scale = _ten_to(group("e", "tens", "tens_") or "0")
        return None if scale is None else _number(decimal) * scale
    top = _number(group("top", "top_", "numerator", "numerator_"))
    bottom = _number(group("bottom", "bottom_", "denominator", "denominator_"))
    whole = group("whole", "whole_")
    if bottom == 0 or (whole and top >= bottom):  # 1 11/2 is a slip, or a product
        return None
    return _number(whole or "0") + top / bottom


def _first_of(found: re.Match[str]) -> Callable[..., str]:
    return lambda *names: next((found[name] for name in names if found[name]), "")


def _repeating(before: str, fixed: str, repeated: str) -> Fraction:
    scale = 10 ** len(fixed)
    return Fraction(int(before + fixed or "0"), scale) + Fraction(int(repeated), scale * (10 ** len(repeated) - 1))


def _ten_to(power: str) -> Fraction | None:
    return Fraction(10) ** int(power) if abs(int(power)) <= MAX_EXPONENT else None


def _number(digits: str) -> Fraction:
    return Fraction(re.sub("[, ']", "", digits).removesuffix("."))


def _clock(text: str) -> Number | None:
    """Hours and minutes, which are digits to the base 60."""
    found = _CLOCK.match(text)
    if found is None:
        return None
    hours, minutes, half = int(found[1]), int(found[2]), found[3]
    ending = Ending(sides=frozenset((f"{half.lower()}m",))) if half else Ending()
    return Number(hours + Fraction(minutes, 60), ending, base=None if half and not minutes else 60)


def _based(text: str) -> Number | None:
    """Digits with their base below them: 101_{2}."""
    found = _BASED.match(text)
    if found is None:
        return None
    base = int(found[1] or found[2])
    try:
        return Number(Fraction(int(found[0], base)), base=base) if 2 <= base <= 36 else None
    except ValueError:  # a digit that the base does not have
        return None
