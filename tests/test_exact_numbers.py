"""Numbers as they are written: known values of renderings, and texts that are no plain number."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.answers.exact_numbers import MAX_LENGTH, exact_value

NO_NUMBERS = (
    *("", "x", "5x", "5 n", r"5\pi", "5 or 6", "5 or more", "5 and a half", "5 squared", "5 minus two", "5 is not it"),
    *("1,23", "3,000,00", "6:30", "5^2", "2+3", "1/0", "1/2/3", r"\frac{1}{0}", "1e5000", "9" * (MAX_LENGTH + 1)),
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234.50", Fraction(2469, 2)),
        (r"\frac{2469}{2}", Fraction(2469, 2)),
        ("1234.5", Fraction(2469, 2)),
        ("2469/2", Fraction(2469, 2)),
        (r"1234\frac{1}{2}", Fraction(2469, 2)),
        ("1,234 1/2", Fraction(2469, 2)),
        (r"\dfrac12", Fraction(1, 2)),
        (r"-\tfrac{1}{2}", Fraction(-1, 2)),
        (r"\frac{-1}{2}", Fraction(-1, 2)),
        (r"\frac{1.5}{3}", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("-0", Fraction(0)),
        ("0.00", Fraction(0)),
        ("−7", Fraction(-7)),
        ("$5", Fraction(5)),
        ("-$5.00", Fraction(-5)),
        (r"\$1{,}000", Fraction(1000)),
        (r"1\,000\,000", Fraction(1_000_000)),
        ("€20", Fraction(20)),
        ("50%", Fraction(50)),
        (r"50\%", Fraction(50)),
        ("18 dollars per hour", Fraction(18)),
        (r"18 \text{ cm}^2", Fraction(18)),
        (r"90^\circ", Fraction(90)),
        ("$18$.", Fraction(18)),
        (r"\(x = 18\)", Fraction(18)),
        ("**18**", Fraction(18)),
        ("3 million", Fraction(3_000_000)),
        ("2.5 dozen eggs", Fraction(30)),
        ("60 miles/hour", Fraction(60)),
    ],
)
def test_a_rendering_has_the_value_that_it_states(text, value):
    assert exact_value(text) == value


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_a_text_whose_value_is_not_plain_is_no_number(text):
    assert exact_value(text) is None


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_a_fraction_has_its_value_in_every_rendering(top, bottom):
    sign, size = ("-" if top < 0 else ""), abs(top)
    value = Fraction(top, bottom)
    for text in (f"{top}/{bottom}", rf"{sign}\frac{{{size}}}{{{bottom}}}", rf"$\dfrac{{{top}}}{{{bottom}}}$ hours"):
        assert exact_value(text) == value


@given(st.integers(-(10**15), 10**15), st.integers(0, 99))
def test_a_decimal_has_its_value_with_and_without_commas_currency_and_zeros(whole, cents):
    value = abs(Fraction(whole)) + Fraction(cents, 100)
    for text in (f"{abs(whole):,}.{cents:02}", f"${abs(whole)}.{cents:02}0", f"{abs(whole)}.{cents:02} dollars"):
        assert exact_value(text) == value
        assert exact_value(f"-{text}") == -value
