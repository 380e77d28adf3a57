"""Final answers: where a completion states them, and when two are equal without and with math-verify."""

import importlib.util
import threading
import time

import pytest

from data.answers.final_answer import final_answer, same_answer
from data.answers.math_process import MathProcess

needs_math_verify = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="needs math-verify: pip install -e '.[problems]'"
)


def never(given, reference):
    raise AssertionError(f"{given!r} and {reference!r} were not told apart before math-verify")


@pytest.fixture(scope="module")
def process():
    process = MathProcess(timeout_seconds=2.0)
    yield process
    process.close()


@pytest.mark.parametrize(
    ("text", "form", "answer"),
    [
        ("48/2 = 24\n#### 72", "hashes", "72"),
        ("#### 5\nWait.\n#### $1,234.50 \nDone", "hashes", "$1,234.50"),
        ("no mark, 72", "hashes", None),
        ("####", "hashes", None),
        ("####\n72", "hashes", None),
        (r"so \boxed{\frac{1}{2}} it is", "boxed", r"\frac{1}{2}"),
        (r"\boxed{1} and then \boxed{\text{a } \{b\}}", "boxed", r"\text{a } \{b\}"),
        (r"\boxed 7", "boxed", "7"),
        (r"\boxed{1 and so on", "boxed", None),
        (r"\boxed", "boxed", None),
        ("The answer is $18. Then we stop.", "phrase", "$18"),
        ("The answer is: 3.50 dollars.", "phrase", "3.50 dollars"),
        ("The answer is 1. No, the final answer is 2", "phrase", "2"),
        ("I do not know", "phrase", None),
        ("first 3, then -1,234.5 in all.", "last_number", "-1,234.5"),
        ("none at all", "last_number", None),
    ],
)
def test_the_last_statement_in_a_form_is_the_answer(text, form, answer):
    assert final_answer(text, (form,)) == answer


def test_of_several_forms_the_first_that_is_used_counts_and_none_is_tried_unasked():
    text = "The answer is 5, so \\boxed{6} of 7"
    assert final_answer(text, ("hashes", "boxed", "last_number")) == "6"
    assert final_answer(text, ("hashes",)) is None


@pytest.mark.parametrize(
    ("given", "reference", "equal"),
    [
        ("1,234.50", "1234.5", True),
        (r"\frac{2469}{2}", "1234.5", True),
        ("18 apples", "18", True),
        ("-0", "0", True),
        (r"\text{Evelyn}", "evelyn", True),
        (r"\left( 1, 2 \right)", "(1,2)", True),
        ("17", "18", False),
        ("a", "A", False),
        ("A", "B", False),
        ("-18", "18", False),
        ("0.333333", "1/3", False),
        ("18 or 19", "18", False),
        ("12 apples or 13", "13", False),
        ("5 thousand", "5", False),
        ("", "", False),
        ("9" * 300, "5", False),
    ],
)
def test_text_and_exact_numbers_decide_without_math_verify(given, reference, equal):
    assert same_answer(given, reference, never) == equal


@needs_math_verify
@pytest.mark.parametrize(
    ("given", "reference", "equal"),
    [
        ("9+9", "18", True),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt2}", True),
        ("x^2+1", "1+x^2", True),
        (r"\{1,2\}", r"\{2,1\}", True),
        ("(1,2)", "(2,1)", False),
        ("[1,2)", "(1,2]", False),
        ("1,23", "123", False),
        ("5x", "5", False),
        (r"\frac{1}{0}", "5", False),
        ("{5", "5", False),
    ],
)
def test_math_verify_decides_the_rest(process, given, reference, equal):
    assert same_answer(given, reference, process.equivalent) == equal


@needs_math_verify
def test_a_hostile_answer_costs_its_time_out_and_the_next_is_answered_at_once(process):
    killed = process.num_killed
    process.equivalent("1", "1+0")  # started
    start = time.monotonic()
    assert not same_answer(final_answer(r"\boxed{9^{9^{9}}}", ("boxed",)), "5", process.equivalent)
    assert 2.0 <= time.monotonic() - start < 4.0  # its time-out, and what a busy machine adds
    assert process.num_killed == killed + 1
    assert process.equivalent("2^{10}", "1024")


@needs_math_verify
def test_an_answer_is_compared_off_the_main_thread_too(process):
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.append(process.equivalent("2^{3}", "8")))
    thread.start()
    thread.join()
    assert verdicts == [True]


def test_without_math_verify_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr("data.answers.math_process.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install --editable '\.\[problems\]'"):
        MathProcess()
