"""Where texts state their answers, in forms that people and models really write."""

import pytest

from data.answers.final_answer import final_answer

BOXED = r"""
\boxed 12 | 12
\boxed 12 clips | 12
\boxed\frac12 | \frac12
\boxed\frac12$. | \frac12
\boxed \dfrac{1}{2} and | \dfrac{1}{2}
\boxed-5 | -5
\boxed -5. | -5
$\boxed 7$ | 7
(\boxed 7) | 7
{\boxed 7} | 7
\boxed{\boxed{36}} | 36
\boxed\sqrt{2} | \sqrt{2}
\boxed\sqrt2 ok | \sqrt2
\boxed x^2+1$ | x^2+1
\boxed{12 | None
\boxed | None
\boxed{} | None
\boxed {5} | 5
\boxed{\{1,2\}} | \{1,2\}
\boxed 1,234.50 dollars | 1,234.50
\boxed 1/2 | 1/2
\boxed 1 1/2. | 1 1/2
\boxed 50\% | 50\%
\boxed(1,2) | (1,2)
\boxed 3.5, so | 3.5
\boxed\text{Evelyn} | \text{Evelyn}
\boxed A | A
\boxed{5}, not \boxed 6 | 6
\boxed12\] | 12
\boxed12\) | 12
\boxed\pi | \pi
\boxed2\pi$ | 2\pi
\boxed\frac 1 2 | \frac 1 2
\boxed+5 | +5
\boxed $36 | None
\boxed 36 | 36
\boxed\{1,2\} | \{1,2\}
\boxedx | None
\boxed{\dfrac{\pi}{2}} | \dfrac{\pi}{2}
\boxed1\frac12 | 1\frac12
\boxed{5} or \boxed{ | None
\boxed 3.6e5 | 3.6e5
\boxed 3:2 | 3:2
\boxed 5:30 PM | 5:30 PM
\boxed 5 \times 10^3 | 5 \times 10^3
\boxed x = 5 | x = 5
\boxed (1, 2) | (1, 2)
\boxed [1, 2). | [1, 2)
\boxed \{1, 2\} | \{1, 2\}
\boxed 1 000 clips | 1 000
\boxed 12 - that is it | 12
"""
PHRASE = (
    ("The answer is:\n36", "36"),
    ("The answer is 36. I hope the answer is right.", "36"),
    ("The answer is 36.\nI hope the answer is right", "36"),
    ("The answer is therefore 3.", "3"),
    ("the final answer is 15 gallons * 8 pints / gallon = 120 pints", "120 pints"),
    ("The answer is: 3.50 dollars.", "3.50 dollars"),
    ("The answer is $18. Then we stop.", "$18"),
    ("The answer is 1. No, the final answer is 2", "2"),
    ("I do not know", None),
    ("The answer is St. Louis.", "St. Louis"),
    ("The answer is Mr. Smith. Done.", "Mr. Smith"),
    ("The answer is Evelyn.", "Evelyn"),
    ("The answer is\n\n\\[\n36\n\\]", "36"),
    ("**The answer is:** 36", "36"),
    ("The answer is **36**.", "**36**"),
    ("The answer is 36. Check whether the answer is 37.", "36"),
    ("The answer is correct.", None),
    ("The answer is not 5.", "not 5"),
    ("The answer is x = 5.", "x = 5"),
    ("The answer is 5 a.m. in the morning", "5 a.m. in the morning"),
    ("The answer is 36. The answer is in the box.", "36"),
    ("My final answer is 7!", "7"),
    ("The answer is 36, as the answer is what we seek", "36, as the answer is what we seek"),
    ("The answer to the question is 5.", "5"),
    ("The answer is Yes.", "Yes"),
    ("The answer is 3.", "3"),
    ("The answer is $\\frac{1}{2}$.", "$\\frac{1}{2}$"),
    ("The answer is: **36**", "**36**"),
    ("the answer is, 36", ", 36"),
    ("The answer is 36. I'm confident that this answer is right.", "36"),
    ("The answer is 36. That the answer is an integer is clear.", "36"),
    ("Answer is 5", "5"),
    ("The answer is $36$. The answer is correct because we checked.", "$36$"),
    ("The answer is 20/4 = 5.", "5"),
    ("The answer is 36. The answer is in dollars.", "36"),
    ("The answer is 36. The answer is rounded to the nearest integer.", "36"),
    ("The answer is positive.", "positive"),
    ("The answer is 36. If the answer is 37, then it fails.", "36"),
    ("The answer is as follows:\n36", "36"),
    ("The answer is, therefore, 36.", "36"),
    ("The answer is given by \\boxed{36}.", "\\boxed{36}"),
    ("The answer is A. Because", "A"),
    ("The answer is 5 ft. 3 in.", "5 ft. 3 in"),
    ("The answer is 36 in. Then we stop.", "36 in"),
    ("The answer is " + "Mr. " * 20_000, ("Mr. " * 20_000).strip()),
)
LAST_NUMBER = (
    ("first 3, then -1,234.5 in all.", "-1,234.5"),
    ("1 1/2", "1 1/2"),
    ("it is \\frac{1}{2}", "\\frac{1}{2}"),
    ("10-7", "7"),
    ("so -7", "-7"),
    ("is 1e3.", "1e3"),
    ("5½ cups", "5½"),
    ("in US$36", "36"),
    ("x2 is 5", "5"),
    ("5 and x2", "5"),
    ("of 3.5.", "3.5"),
    ("10\\,000", "10\\,000"),
    ("-.5", "-.5"),
    (".5", ".5"),
    ("３６", "３６"),
    ("= 36", "36"),
    ("$36$", "$36"),
    ("3/4", "3/4"),
    ("-$5", "-$5"),
    ("(-5)", "-5"),
    ("36%", "36"),
    ("2-3/4", "3/4"),
    ("of 36 cm^2", "36"),
    ("of 36 cm^{-2}", "36"),
    ("is 10^3", "10^3"),
    ("is 3 \\times 10^{4}.", "3 \\times 10^{4}"),
    ("is 0.\\overline{3}", "0.\\overline{3}"),
    ("at 5:30 PM", "5:30 PM"),
    ("1 000 clips", "1 000"),
)


@pytest.mark.parametrize("line", BOXED.strip().splitlines())
def test_a_box_holds_what_is_in_its_braces_or_the_expression_behind_it(line):
    text, _, answer = line.rpartition(" | ")
    assert str(final_answer(text, ("boxed",))) == answer


@pytest.mark.parametrize(("text", "answer"), PHRASE)
def test_the_phrase_states_an_answer_to_the_end_of_its_sentence(text, answer):
    assert final_answer(text, ("phrase",)) == answer


@pytest.mark.parametrize(("text", "answer"), LAST_NUMBER)
def test_the_last_number_is_whole(text, answer):
    assert final_answer(text, ("last_number",)) == answer
