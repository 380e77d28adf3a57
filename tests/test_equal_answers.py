"""What equals what: the table of docs/data.md by examples, in both directions, and its kinds as properties."""

import importlib.util
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data.answers.exact_numbers import read_number
from data.answers.final_answer import same_answer
from data.answers.math_process import MathProcess

needs_math_verify = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="needs math-verify: pip install -e '.[problems]'"
)

EQUAL_NUMBERS = r"""
1e3 | 1000
1E+3 | 1000
1.5e-3 | 0.0015
1e-05 | 0.00001
1.5 \times 10^{-3} | 0.0015
1.5×10^3 | 1500
1.5 × 10³ | 1500
10^3 | 1000
0.\overline{3} | 1/3
0.\overline{3} | \frac13
0.1\overline{6} | 1/6
0.\bar 3 | 1/3
0.(3) | 1/3
½ | 1/2
1½ | 3/2
1 1/2 | 3/2
1 and 1/2 | 3/2
1½ cups | 1.5
36, | 36
36. | 36
36; | 36
36€ | 36
36 € | 36
€36 | 36
US$36 | 36
US$ 36 | 36
36 USD | 36
36$ | 36
36 US dollars | 36
Rs. 36 | 36
-$36 | -36
$-36 | -36
36 ¢ | 36
36 km/h | 36
36 m/s | 36
36 mph | 36 miles per hour
36 miles/hour | 36
negative 36 | -36
minus 36 | -36
−36 | -36
+36 | 36
036 | 36
３６ | 36
٣٦ | 36
55 times | 55
5th | 5
2nd | 2
8 dozen | 8
8 dozen | 96
8 dozens | 96
8 dozens | 8
8 dozen | 8 dozens
8 dozen eggs | 96 eggs
8 dozen eggs | 8
36 million | 36000000
36 millions | 36,000,000
3.5 million dollars | $3,500,000
3 fifths | 3/5
2 thirds | 2/3
1 half | 1/2
3 quarters | 3/4
7 quarters | 7
4 fourth graders | 4
50% | 50
50% | 0.5
50\% | 1/2
50 percent | 50%
36 per cent | 36
101_2 | 101_{2}
101_{\text{two}} | 101_2
101₂ | 101_2
101 base 2 | 101_2
101 (base 2) | 101_2
279_{10} | 279
x=5 | 5
x = 5 | x=5
5 = x | x=5
Answer: 36 | 36
= 36 | 36
5 PM | 5 p.m.
5:00 PM | 5 PM
5:30 p.m. | 5:30 PM
5 PM | 5
1 000 | 1000
1 000 000 | 1,000,000
1'000 | 1000
1\,000 | 1000
10,\!000 | 10000
10{,}000 | 10,000
\boxed{36} | 36
\boxed{\boxed{36}} | 36
$\boxed{36}$ | 36
\frac12 | 1/2
\tfrac12 | .5
\dfrac{1}{2} | 0.5
\frac1{2} | 0.5
\frac{1}2 | 0.5
\frac 1 2 | 0.5
{1 \over 2} | 0.5
1\frac12 | 3/2
-1\frac12 | -1.5
\text{36} | 36
36\text{ cm} | 36
36\text{ m} | 36
36\text{ m}^2 | 36
36 \mathrm{~cm} | 36
36 square feet | 36 ft^2
36 sq ft | 36
36 cm² | 36
36 units^2 | 36
$36 | 36
\$36 | 36
$\$36$ | 36
$36$ | 36
36 dollars | $36
$36.00 | 36
**36** | 36
*36* | 36
"36" | 36
(36) | 36
{36} | 36
\(36\) | 36
\[36\] | 36
`36` | 36
36 apples | 36
36 red apples | 36 apples
36 hours a week | 36
36 years old | 36
36 clips altogether in April and May | 36
36 girls and boys | 36
5 left over | 5
20 push-ups | 20
3 five-dollar bills | 3
36 people’s | 36
36°C | 36
36^\circ | 36
36° | 36 degrees
36 lbs | 36 pounds
36 minutes | 36 min
(A) | A
\text{(A)} | A
\textbf{(B)} | B
Yes | yes
New York | new york
36 m | 36
36m | 36 metres
36 L | 36
36 m² | 36 square meters
36 m^3 | 36
36 sq. m | 36
36 dB | 36
36 km | 36 kilometers
36 squared centimeters | 36 cm^2
3/4 of a cup | 0.75
36 of the students | 36
$180 a week | 180
$22 at the beginning | 22
10-year-old | 10
36-hour | 36 hours
36-fold | 36
36 t-shirts | 36
36 cafés | 36
36 cafes | 36 cafés
5 o'clock | 5
36 hours of TV | 36
18 hours in two weeks | 18
2 quintillion | 2000000000000000000
8 doz | 96
8 dozens of roses | 96 roses
½ dozen | 6
36 boxes | 36 box
36 candies | 36 candy
36 children | 36 child
36 people | 36 persons
£36 | 36 pounds
£36 | 36 GBP
A$36 | 36 AUD
A$36 | $36
US$36 | 36 dollars
CAD 36 | 36
CHF 36 | 36
₩36 | 36
0.\dot{1}4285\dot{7} | 1/7
0.1\dot6 | 1/6
³⁄₄ | 3/4
101_{\text{base }2} | 101_2
\boxed{36}\text{ km} | 36
\boxed{36} km | 36 km
__36__ | 36
‘36’ | 36
x₁ = 5 | x_1=5
5 in the morning | 5 AM
5 in the evening | 5 PM
\text{Evelyn} | evelyn
"""

EQUAL_EXPRESSIONS = r"""
\{1,2\} | \{2,1\}
1,2 | \{1,2\}
(1,2) | \left( 1, 2 \right)
9+9 | 18
9+9 = 18 | 18
2^{10} | 1024
0.1+0.2 | 0.3
0.1+0.2 | \frac{3}{10}
\frac{\sqrt{2}}{2} | \frac{1}{\sqrt2}
√2 | \sqrt{2}
2π | 2\pi
36 dollars | 6^2
x^2+1 | 1+x^2
\frac{1}{2^{99}} | 2^{-99}
x \in [1,2] | [1,2]
\begin{pmatrix}1\\0.5\end{pmatrix} | \begin{pmatrix}1\\\frac12\end{pmatrix}
\sin(\pi/6) | 1/2
\log_2 8 | 3
y = 2x+3 | 2x+3
(\sqrt{4}, 1) | (2,1)
[1,2] | 1,2
5xy | 5yx
x+y = 1 | y = 1-x
2\pi\text{ cm} | 2\pi
2\sqrt3 cm | 2\sqrt{3}
\sqrt{36}\text{ cm} | 6
6^2 dollars | $36
x = 3 * 12 = 36 | 36
3 x 12 = 36 | 36
x=1, x=2 | 1,2
"""

DIFFERENT = r"""
1 1/2 | 11/2
1½ | 11/2
6 7/3 | 67/3
12 3/4 | 123/4
4 5 | 45
1 2 3 | 123
12 34 | 1234
1 23 | 123
1 0000 | 10000
\frac{1 2}{3} | \frac{12}{3}
36 millions | 36
36 million | 36
36 thousand | 36
36 mil | 36
36 lakh | 36
$5 million | 5
3 fifths | 3
36 halves | 36
36 tenths | 36
36 hundredths | 36
8 eggs | 8 dozen eggs
8 dozen | 96 dozen
36 incorrect | 36
36 (incorrect) | 36
36, incorrect | 36
36 wrong answers | 36
36 isn't right | 36
36 maybe | 36
36 or so | 36
36-ish | 36
36 or 37 | 36
36 thirty-seven | 36
36 and a half | 36
36 squared | 36
36 double | 36
36 gross | 36
36 score | 36
36 below zero | 36
36 negative | 36
36 minus 1 | 36
36 mod 7 | 36
36 base 8 | 36
36 in base 8 | 36
no 36 | 36
not 36 | 36
about 36 | 36
~36 | 36
\approx 36 | 36
36! | 36
36? | 36
36k | 36
5x | 5
0x24 | 36
5 AM | 5 PM
5 a.m. | 5 p.m.
5:30 PM | 5:30 AM
36 degrees Celsius | 36 degrees Fahrenheit
36 ft | 36 cm
36 km | 36 miles
36 km | 36 km/h
36 cm | 36 cm^2
$36 | 36 cents
$36 | €36
36 percent | 36 dollars
36 ounces | 36 pounds
36 boys | 36 girls
5 oranges | 5 apples
x=5 | y=5
x=\sqrt{2} | y=\sqrt{2}
101_2 | 101_3
101_2 | 101
101_2 | 5
2516 | 2516_8
2516_8 | 2516_9
0,500 | 500
1,23 | 123
1,2345 | 12345
1.000.000 | 1000000
36.5.1 | 36.5
36 = 37 | 37
5² | 52
x² | x2
1e3 | 13
-36 | 36
A | B
a | A
N | S
36 m | 36 cm
36m | 36 cm
36 s | 36 hours
36 m^2 | 36 m
$3m | 3
$3k | 3
£3 M | 3
3 mio | 3
3 milliards | 3
3 myriads | 3
3 gazillion | 3
36 tens | 36
3 baker's dozens | 3
36 per mille | 36
36 bps | 36
36 basis points | 36
36-ish | 36
36-odd | 36
36-or-so | 36
36-hour-ish | 36
36 at best | 36
5 in six | 5
36 of seventy | 36
5 in the morning | 5 PM
$36 cents | 36
A$36 | US$36
£36 | 36 lbs
"""

DIFFERENT_EXPRESSIONS = r"""
1,234 | 1, 234
2x=10 | 10
36t | 36
36 d | 36
2\pi t | 2\pi
x+5m | x+5
2\pi h | 2\pi
2\pi\text{ cm} | 2\pi\text{ m}
\sqrt{36}\text{ cm} | 6 inches
\sqrt{2} million | \sqrt{2}
\sqrt{2} incorrect | \sqrt{2}
5 to 6 | 6 to 5
1:02 | 1:2
x = 3 * 12 = 35 | 35
[1,2] | 2,1
3.14159265358979323846264338327950288419716939937510 | \pi
1.414213562373095048801688724209698078569671875376948073176679737990732478462 | \sqrt{2}
1/2^{99} | 1/2^{98}
\frac{1}{2^{99}} | \frac{1}{2^{98}}
10^{-40} | 10^{-41}
\sqrt{2}\cdot 10^{-40} | \sqrt{3}\cdot 10^{-40}
(1,2) | \{1,2\}
[1,2] | \{1,2\}
(2,3] | [2,3)
\{1,2\} | \{1,2,3\}
1.414214 | \sqrt{2}
1.4142135623730951 | \sqrt{2}
(1.414214, 1) | (\sqrt{2}, 1)
3.14159265358979 | \pi
2.718281828459045 | e
0.333333 | \frac{1}{3}
0.3333333333333333 | 1/3
0.333... | 1/3
\frac{1}{0} | 5
36 \times 2 | 36
2^{10} | 1025
36 - 37 | 36
x=5,y=6 | x=6,y=5
x>5 | x<5
x>5 | y>5
x^2 | x^3
3x=15 | 5
"""


def pairs(table: str) -> list[tuple[str, str]]:
    lines = [line.split(" | ") for line in table.strip().splitlines()]
    return [pair for one, other in lines for pair in ((one, other), (other, one))]


def never(given, reference):
    raise AssertionError(f"{given!r} and {reference!r} were not told apart before math-verify")


@pytest.fixture(scope="module")
def check():
    process = MathProcess(timeout_seconds=10.0)
    yield process.equivalent
    process.close()


@pytest.mark.parametrize(("given", "reference"), pairs(EQUAL_NUMBERS))
def test_ways_of_writing_a_number_are_equal_without_math_verify(given, reference):
    assert same_answer(given, reference, never)


@needs_math_verify
@pytest.mark.parametrize(("given", "reference"), pairs(EQUAL_EXPRESSIONS))
def test_ways_of_writing_an_expression_are_equal(given, reference, check):
    assert same_answer(given, reference, check)


@needs_math_verify
@pytest.mark.parametrize(("given", "reference"), pairs(DIFFERENT + DIFFERENT_EXPRESSIONS.lstrip()))
def test_different_answers_are_never_equal(given, reference, check):
    assert not same_answer(given, reference, check)


NATURAL = st.integers(0, 10**9)
UNITS = st.sampled_from(("apples", "km/h", "dollars", "hours a week", "sq ft", "€", "%", r"\text{ cm}^2", "red balls"))
OF_OTHER_VALUE = st.sampled_from(
    ("million", "millions", "thousand dollars", "hundredths", "fifths of a mile", "incorrect", "wrong answers",
     "squared", "or more", "and a half", "mod 7", "base 8", "not", "is wrong", "maybe", "if ever", "minus one",
     "below zero")
)  # fmt: skip


@given(NATURAL, UNITS)
def test_a_unit_changes_no_value(number, unit):
    assert same_answer(f"{number} {unit}", str(number), never)
    assert not same_answer(f"{number} {unit}", str(number + 1), never)


@given(st.integers(2, 10**6), OF_OTHER_VALUE)
def test_words_that_change_a_value_or_deny_it_are_no_unit(number, words):
    assert not same_answer(f"{number} {words}", str(number), lambda *asked: False)


@given(
    st.integers(1, 999), st.lists(st.integers(0, 999), min_size=1, max_size=3), st.sampled_from((",", " ", "'", r"\,"))
)
def test_groups_of_three_digits_are_one_number_and_other_groups_are_none(first, groups, sign):
    digits = "".join(f"{group:03}" for group in groups)
    assert read_number(sign.join([str(first), *(f"{group:03}" for group in groups)])).value == int(f"{first}{digits}")
    assert not same_answer(f"{first}{sign}{digits}0", f"{first}{digits}0", lambda *asked: False)


@given(st.text("0123456789", min_size=1, max_size=4), st.text("0123456789", min_size=1, max_size=2))
def test_a_blank_between_digits_never_vanishes(one, other):
    assert not same_answer(f"{one} {other}", one + other, never)
    assert not same_answer(one + other, f"{one} {other}", never)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(2, 500))
def test_a_mixed_number_is_the_sum_of_its_parts(whole, top, bottom):
    assume(top < bottom)
    value = whole + Fraction(top, bottom)
    for text in (
        f"{whole} {top}/{bottom}",
        rf"{whole}\frac{{{top}}}{{{bottom}}}",
        rf"{whole} \tfrac{{{top}}}{{{bottom}}}",
    ):
        assert read_number(text).value == value and read_number(f"-{text}").value == -value


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(2, 36), st.integers(2, 36))
def test_digits_with_a_base_equal_the_same_digits_in_the_same_base_only(one, other, base, another):
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"

    def written(number, base):
        text = ""
        while number or not text:
            text, number = digits[number % base] + text, number // base
        return f"0{text}_{{{base}}}"

    expected = one == other and base == another
    if base != 10 and another != 10:
        assert same_answer(written(one, base), written(other, another), lambda *asked: False) == expected


@given(st.integers(-400, 300), st.integers(-400, 300), st.integers(1, 999))
def test_no_two_powers_of_ten_are_equal_however_small(one, other, digits):
    for form in ("{}e{}", r"{} \times 10^{{{}}}"):
        assert same_answer(form.format(digits, one), f"{digits}e{other}", never) == (one == other)


@given(st.fractions())
def test_every_fraction_equals_itself_and_no_decimal_near_it(value):
    assert same_answer(str(value), rf"\frac{{{value.numerator}}}{{{value.denominator}}}", never)
    near = f"{float(value):.12f}"
    assert same_answer(str(value), near, never) == (Fraction(near) == value)


@given(st.integers(1, 10**6))
def test_dozens_are_their_number_or_twelve_times_as_many(number):
    for text in (f"{number} dozen", f"{number} dozens", f"{number} dozen eggs"):
        assert same_answer(text, str(number), never) and same_answer(str(12 * number), text, never)
        assert not same_answer(text, str(12 * number + 1), never)
        assert not same_answer(text, f"{12 * number} dozen", never)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_two_texts_can_be_compared_and_in_any_order(one, other):
    assert same_answer(one, other, lambda *asked: False) == same_answer(other, one, lambda *asked: False)


@given(st.text(min_size=1, max_size=40).filter(lambda text: text.strip()))
def test_a_text_that_is_a_number_to_the_verifier_equals_itself(text):
    if read_number(text) is not None:
        assert same_answer(text, text, never)
