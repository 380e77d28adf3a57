"""An answer's text in one plain spelling that keeps its value: the first step of every comparison.

In: the text of an answer, from any keyboard or TeX. Out: one plain spelling of it. Digits of every script are 0 to 9,
½ is 1/2, ² is ^{2} and ₂ is _{2}; \\dfrac and \\frac12 are \\frac{1}{2}; \\text, \\left, boxes, bold type and dollars
around a formula are gone; runs of blanks are one blank. No blank between digits vanishes, so 1 1/2 stays apart from
11/2; TeX's thin blanks and no-break blanks, which part thousands, become the separator `'`.
"""

import re
import unicodedata
from functools import lru_cache

_DIGITS_ALONE = re.compile(r"[-+]?[0-9][0-9.,]*(?<=[0-9])")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿ", "0123456789+-=()n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎", "0123456789+-=()")
_RAISED, _LOWERED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿ]+"), re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎]+")
_RAISED_OVER_LOWERED = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹]+)[⁄/]([₀₁₂₃₄₅₆₇₈₉]+)")  # ³⁄₄
_OVERLINED = re.compile("(?:\\d[\u0304\u0305])+")
_DOTTED = re.compile("(\\d)\u0307")
_BETWEEN_DOTS = re.compile(r"\\dot\s*\{?(\d)\}?(\d*)\\dot\s*\{?(\d)\}?")  # the first and the last digit that repeat
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]|[\u202a-\u202e]|\\\\displaystyle\\b|\\\\limits\\b")
# TeX's \, and \! and the thin and no-break blanks of typography: between groups of three digits they part thousands.
_THIN = re.compile("(?<=\\d)(?:\\\\[!,]|\\\\ |~|[\u00a0\u2009\u202f])\\s*(?=\\d{3})")
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("−–‐‑﹣－", "-"),
        **dict.fromkeys("⁄∕÷", "/"),
        "‘": "'",
        "’": "'",
        "′": "'",
        "٫": ".",
        "٬": ",",
        "×": "\\times ",
        "·": "\\cdot ",
        "⋅": "\\cdot ",
        "π": "\\pi ",
        "∞": "\\infty ",
        "≤": "\\leq ",
        "≥": "\\geq ",
        "≠": "\\neq ",
        "≈": "\\approx ",
        "±": "\\pm ",
        "∪": "\\cup ",
        "∈": "\\in ",
        "°": " degrees ",
        "¢": " cents ",
    }
)
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|\w))")
_TEXT = re.compile(r"\\(?:text(?:bf|rm|it|sf|tt)?|math(?:rm|bf|sf|it|tt)|mbox|bm|boldsymbol|bold)\s*\{([^{}]*)\}")
# Letters that name a unit only where TeX sets them as text: m alone could as well be a variable.
_SET_UPRIGHT = re.compile(r"^\s*([mgshLlNJWV])(?=\s*(?:$|/|\^))")
_UPRIGHT = {"m": "metres", "g": "grams", "s": "seconds", "h": "hours", "L": "litres", "l": "litres", "N": "newtons"}
_UPRIGHT |= {"J": "joules", "W": "watts", "V": "volts"}
_CURRENCY = "\ue000"  # a dollar that means money; dollars in pairs are TeX's
_REWRITTEN = (  # plain text first, then what replaces it
    ("\\$", _CURRENCY),
    (",\\!", ","),
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("\\cfrac", "\\frac"),
    ("\\sfrac", "\\frac"),
    ("\\nicefrac", "\\frac"),
    ("\\left", ""),
    ("\\right", ""),
    ("\\lbrace", "\\{"),
    ("\\rbrace", "\\}"),
    ("\\le ", "\\leq "),
    ("\\ge ", "\\geq "),
    ("\\%", "%"),
    ("\\pounds", "£"),
    ("\\euro", "€"),
    ("{,}", ","),
    ("{.}", "."),
    ("^{\\circ}", " degrees "),
    ("^\\circ", " degrees "),
    ("\\degree", " degrees "),
)
_BLANKS = re.compile(r"\\[!,;:> ]|\\q?quad\b|(?<=\S)~|\s+")
_GROUP = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
_FRACTION = re.compile(rf"\\frac\s*(?:{_GROUP}|(\d|[A-Za-z]|\\[A-Za-z]+))\s*(?:{_GROUP}|(\d|[A-Za-z]|\\[A-Za-z]+))")
_OVER = re.compile(r"\{\s*([^{}]*?)\s*\\over\s*([^{}]*?)\s*\}")
_BOX = re.compile(r"\\(?:boxed|fbox|underline)\s*\{(.*)\}", re.DOTALL)
_BOXES = re.compile(rf"\\(?:boxed|fbox|underline)\s*{_GROUP}")
_BASE = re.compile(
    r"((?:^|=\s*)[-+]?\d[0-9A-Fa-f]*)\s*(?:_\s*\{?\s*(?:base\s*)?([A-Za-z]+|\d+)\s*\}?|,?\s*\(?\s*(?:in\s+)?base[\s-]+(\w+)\s*\)?)$"
)
_BASES = {name: str(base) for base, name in enumerate("two three four five six seven eight nine ten".split(), start=2)}
_BASES |= {"eleven": "11", "twelve": "12", "sixteen": "16"}
_WRAPPED: tuple[tuple[str, str], ...] = (
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("**", "**"),
    ("*", "*"),
    ("`", "`"),
    ("__", "__"),
)
_WRAPPED += (('"', '"'), ("“", "”"), ("'", "'"), ("{", "}"))
_PAREN = re.compile(r"\(([^(),\[\]{}]*)\)")


@lru_cache(maxsize=2**14)
def plain(text: str) -> str:
    """The one plain spelling of an answer."""
    if _DIGITS_ALONE.fullmatch(text):
        return text  # most answers need no change
    text = _ascii(_INVISIBLE.sub("", text))
    for written, meant in _REWRITTEN:
        text = text.replace(written, meant)
    text = _BOXES.sub(r" \1 ", _BETWEEN_DOTS.sub(r"\\overline{\1\2\3}", text))
    text = _TEXT.sub(_as_words, text)
    text = _BLANKS.sub(" ", _THIN.sub("'", text)).replace(" ^", "^").strip()
    if text.count("$") % 2 == 0:
        text = text.replace("$", "")
    text = _unwrapped(_OVER.sub(r"\\frac{\1}{\2}", text))
    text = _FRACTION.sub(_braced, text)
    return _BASE.sub(_based, text.replace(_CURRENCY, "$"))


def _ascii(text: str) -> str:
    """Compatibility characters as plain ones; those whose place has a meaning keep it in TeX's way."""
    if text.isascii():
        return text
    text = _OVERLINED.sub(lambda found: f"\\overline{{{re.sub('[^0-9]', '', found[0])}}}", text)
    text = _DOTTED.sub(r"\\dot{\1}", text)
    text = _RAISED_OVER_LOWERED.sub(
        lambda found: f" {found[1].translate(_SUPERSCRIPTS)}/{found[2].translate(_SUBSCRIPTS)}", text
    )
    text = _RAISED.sub(lambda found: f"^{{{found[0].translate(_SUPERSCRIPTS)}}}", text)
    text = _LOWERED.sub(lambda found: f"_{{{found[0].translate(_SUBSCRIPTS)}}}", text)
    text = _THIN.sub("'", text)  # NFKC makes common blanks of them
    text = "".join(map(_character, text.replace("℃", "° Celsius").replace("℉", "° Fahrenheit"))).translate(_SIGNS)
    return _ROOT.sub(lambda found: f"\\sqrt{{{found[1] or found[2]}}}", text)


def _character(character: str) -> str:
    if character.isascii():
        return character
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    meant = unicodedata.normalize("NFKC", character)
    return f" {meant}" if "⁄" in meant else meant  # 1½ is 1 1/2


def _as_words(found: re.Match[str]) -> str:
    return f" {_SET_UPRIGHT.sub(lambda unit: _UPRIGHT[unit[1]], found[1].replace('~', ' '))} "


def _unwrapped(text: str) -> str:
    """Without what surrounds an answer as a whole: dollars, brackets of TeX, boxes, bold type, quotes, full stops."""
    before = None
    while text != before:
        before = text
        text = text.strip().rstrip(".,;:").strip()
        box = _BOX.fullmatch(text)
        if box and _balanced(box[1]):
            text = box[1]
        for opening, closing in _WRAPPED:
            inner = text[len(opening) : len(text) - len(closing)]
            is_wrapped = text.startswith(opening) and text.endswith(closing) and len(text) > len(opening + closing)
            if is_wrapped and not text.endswith("\\" + closing) and opening not in inner and closing not in inner:
                text = inner
        in_parens = _PAREN.fullmatch(text)
        if in_parens and in_parens[1].strip():  # (36) and (A); with a comma it is a point
            text = in_parens[1]
        text = text.removeprefix("**").removesuffix("**")
    return text


def _balanced(text: str) -> bool:
    depth = 0
    for mark in re.findall(r"\\.|[{}]", text, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(mark, 0)
        if depth < 0:
            return False
    return depth == 0


def _braced(found: re.Match[str]) -> str:
    top, bottom = (braced if braced is not None else bare for braced, bare in (found.group(1, 2), found.group(3, 4)))
    return f"\\frac{{{_FRACTION.sub(_braced, top).strip()}}}{{{_FRACTION.sub(_braced, bottom).strip()}}}"


def _based(found: re.Match[str]) -> str:
    base = found[2] or found[3]
    base = _BASES.get(base.lower(), base)
    if base == "10":
        return found[1]
    return f"{found[1]}_{{{base}}}" if base.isdigit() else found[0]
