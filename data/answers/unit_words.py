"""The words after a number: the factor and the unit that they name.

In: the text after a number. Out: an `Ending`, or None if the words could change the value or are not a unit. Any noun
can be a unit, so only the rest is listed: scale words, which always multiply; fractions in words; measures, which two
answers must share if both name one; and words that change, doubt or deny a value, which make it no answer.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

_SCALES: Mapping[str, int] = {
    "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15,
    "quintillion": 10**18, "sextillion": 10**21,
    "mil": 10**6, "mln": 10**6, "bn": 10**9, "bln": 10**9, "lakh": 10**5, "crore": 10**7,
}  # fmt: skip
_PARTS: Mapping[str, int] = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "sixteenth": 16, "twentieth": 20, "hundredth": 100,
    "thousandth": 1000, "millionth": 10**6,
}  # fmt: skip
_SPELLINGS = {  # of measures; a plural is its singular
    "dollar": "$ dollar buck", "dollar US": "usd us$", "dollar AU": "aud a$ au$", "dollar CA": "cad c$ ca$",
    "dollar NZ": "nzd nz$", "dollar HK": "hkd hk$", "dollar SG": "sgd s$ sg$", "real": "brl r$", "franc": "chf franc",
    "euro": "€ eur euro", "pound sterling": "£ gbp quid", "yen": "¥ jpy yen", "yuan": "cny rmb yuan",
    "won": "₩ krw", "rouble": "₽ rub ruble rouble", "shekel": "₪ ils shekel", "rupee": "₹ inr rs rupee",
    "cent": "cent cts penny pence", "percent": "percent pct", "degree": "degree deg",
    "radian": "radian rad", "millimetre": "mm millimetre millimeter", "centimetre": "cm centimetre centimeter",
    "metre": "metre meter", "kilometre": "km kilometre kilometer", "inch": "inch", "foot": "ft foot feet",
    "yard": "yd yard", "mile": "mi mile", "milligram": "mg milligram", "gram": "gm gram gramme",
    "kilogram": "kg kilogram kilo", "tonne": "tonne", "ton": "ton", "ounce": "oz ounce", "pound": "pound",
    "pound mass": "lb", "millilitre": "ml millilitre milliliter", "litre": "litre liter", "pint": "pt pint",
    "quart": "qt quart", "gallon": "gal gallon", "cup": "cup", "millisecond": "ms millisecond", "second": "sec second",
    "minute": "min minute", "hour": "hr hour", "day": "day", "week": "wk week", "month": "month", "year": "yr year",
    "unit": "unit", "newton": "newton", "joule": "joule", "watt": "kw watt",
    "volt": "volt",
    "hertz": "hz hertz", "gigabyte": "gb gigabyte", "megabyte": "mb megabyte", "kilobyte": "kb kilobyte",
}  # fmt: skip
_MEASURES = {word: measure for measure, words in _SPELLINGS.items() for word in words.split()}
# Words that distinguish equal numbers: 5 AM is not 5 PM.
_SIDES = frozenset("am pm noon midnight bc bce ad ce north south east west celsius fahrenheit kelvin".split())
_IRREGULAR: Mapping[str, str] = {
    "people": "person", "children": "child", "men": "man", "women": "woman", "feet": "feet", "teeth": "tooth",
    "mice": "mouse", "geese": "goose", "loaves": "loaf", "leaves": "leaf", "knives": "knife", "wolves": "wolf",
    "shelves": "shelf", "calves": "calf", "scarves": "scarf", "wives": "wife", "lives": "life", "thieves": "thief",
    "halves": "halve", "pies": "pie", "ties": "tie", "cookies": "cookie", "movies": "movie", "brownies": "brownie",
    "smoothies": "smoothie", "selfies": "selfie", "calories": "calorie", "series": "series", "potatoes": "potato",
    "tomatoes": "tomato", "heroes": "hero",
}  # fmt: skip
_HALVES = {"morning": "am", "afternoon": "pm", "evening": "pm"}
_SHORT = frozenset("of an to at by a per on up in as he we it my go us".split())
_SYMBOLS = frozenset("db kj kn pa ev nm ha cc cl dl kv tv cd pc".split())  # other words of two letters
_LETTERS: Mapping[str, str] = {"m": "metre", "s": "second", "h": "hour", "g": "gram", "l": "litre"}  # of m/s and 5 m
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
    " twenties thirties forties fifties sixties seventies eighties nineties mille permil basis bps thou mio mrd"
    " milliard milliards milliarden myriad myriads zillion"
    " mistake mistaken mistakenly error erroneous bogus fake nonsense impossible undefined unknown indeterminate nope"
    " nah rejected discarded cancelled retracted contradiction least most maximum minimum would could should might may"
    " must can cannot isn't wasn't aren't ain't don't doesn't can't won't".split()
)
_NOT_FIRST = frozenset("and over a an to by up as he we it my about around".split())  # 5 over x; but 5 left over
_TIMES = frozenset("in every each during within".split())
_NOT_LAST = frozenset(("and", "about", "around"))
_NOT_AFTER_AND = frozenset("some more change counting up over".split())
_ACCENTS = re.compile("[\u0300-\u036f]")
COIN = r"(?:\b(?:us|ca|au|nz|hk|sg|[acsr]))?\$|[€£¥₹₩₽₪₫₱₴₦₺฿]"
_WORD = re.compile(rf"[a-z]+(?:['-][a-z]+)*'?|{COIN}")
_POWER = re.compile(r"([a-z]+)\s*\^\s*\{?\s*([23])\s*\}?|(squared?|sq|cubic|cu)\.? ([a-z]+)|([a-z]+) (squared|cubed)")
# One letter behind a number is a variable, as in 5x, but these are units; a power only behind a blank, 5 m^2.
_SYMBOL = re.compile(r"\s*[mshglL](?=\s*(?:$|[/.,)])|\s+(?:per|an?|of|in|each)\b)|\s+[mshglL](?=\s*\^)|\s+[gh]\b")
_VARIABLE = re.compile(r"\s*[A-Za-z](?!'?[A-Za-z]|-[A-Za-z]{2}|[/$.])(?!(?<=\sa) [a-z]{2})")
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
            return _cover(self.measures, other.measures) and _cover(other.measures, self.measures)
        return bool(self.words & other.words)

    def with_money(self, sign: str) -> "Ending":
        """The same after an amount with a currency before it, such as US$ or EUR."""
        coin = sign.lower().rstrip(".")
        money = frozenset((_MEASURES.get(coin, coin),))
        return replace(self, words=self.words | money, measures=self.measures | money)


def read_ending(text: str, value: Fraction) -> Ending | None:
    """The ending of a number with this value; None if it is not a unit."""
    if not text.strip():
        return Ending()
    if _VARIABLE.match(text) and not _SYMBOL.match(text):
        return None
    words = _words(text)
    if words is None or len(words) > _MAX_WORDS:
        return None
    factor, scale = Fraction(1), None
    while words and _singular(words[0]) in (*_SCALES, "dozen", "doz"):
        word = _singular(words.pop(0))
        factor *= _SCALES.get(word, 12)
        scale = scale if word in _SCALES else "dozen"
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
    if not all(_may_stand(words, place) for place in range(len(words))):
        return None
    return _ending(factor, scale, words)


def _cover(measures: frozenset[str], others: frozenset[str]) -> bool:
    """Whether each measure is among the others. A pound may be sterling or mass, a dollar any country's."""
    return all(
        any(one == other or one == other.split()[0] or other == one.split()[0] for other in others) for one in measures
    )


def _words(text: str) -> list[str] | None:
    """The words in small letters, a power in one word with its unit; None if there is anything but words."""
    text = unicodedata.normalize("NFKD", text.replace(" May", " mai").lower())
    text = _ACCENTS.sub("", text)  # cafés
    text = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", text)
    text = re.sub(r"(?<=[a-z])\.(?=\s|$)|[()]|,(?=\s)", "", text).replace("per cent", "percent")
    text = re.sub(r"\bin the (morning|afternoon|evening)\b", lambda found: _HALVES[found[1]], text)
    text = text.replace("%", " percent ")
    if (joined := re.match(r"\s*-([a-z]+)", text)) and (_singular(joined[1]) in _MEASURES or joined[1] == "fold"):
        text = text.replace("-", " ", 1)  # 10-year-old, 3-fold
    text = _POWER.sub(_as_one_word, re.sub(r"\b(sq\.?|square|cubic) in\b|\bin(?=\s*\^)", r"\1 inch", text))
    text = re.sub(r"\bdegrees? ([cfk])\b", lambda found: f"degrees {_AFTER_DEGREES[found[1]]}", text)
    if _SYMBOL.match(text):
        text = f"{_LETTERS[text.strip()[0]]} {text.strip()[1:]}"
    text = re.sub(r"\s*/\s*([a-z])\b", lambda found: f" per {_LETTERS.get(found[1], found[1])}", text)
    text = re.sub(r"\s*/\s*", " per ", text)
    text = re.sub(rf"({COIN})", r" \1 ", text)
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


def _may_stand(words: list[str], place: int) -> bool:
    """Whether the word at this place may be part of a unit."""
    word, before = words[place], words[place - 1] if place else ""
    if (before == "and" and word in _NOT_AFTER_AND) or (before == "at" and word in ("best", "worst")):
        return False
    if word in _NUMBERS and place > 1 and before in _TIMES:
        return True  # 18 hours in two weeks
    if word in _PARTS and word not in ("half", "quarter") and place < len(words) - 1:
        return True  # 4 fourth graders
    if word in _NO_UNIT or any(part in _NO_UNIT for part in word.split("-")[1:]):
        return False
    if "illion" in word or word in _NUMBERS or _singular(word) in (*_SCALES, *_NUMBERS, "dozen"):
        return False
    if len(word) > 2 or word in _SHORT or word in _SYMBOLS or word in _MEASURES or word in _SIDES:
        first, *others = word.split("-")
        return not (first in _NUMBERS or _singular(first) in _PARTS) or not all(map(_counts, others))
    return False


def _counts(word: str) -> bool:
    return word in _NUMBERS or _singular(word) in (*_PARTS, "first", "second")


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
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and len(word) > 2 and not word.endswith(("ss", "us", "is")) else word
