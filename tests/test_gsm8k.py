"""The real GSM8K: every reference answer verifies against itself and its renderings, near misses do not."""

import os
from pathlib import Path

import pytest

from data.answers.exact_numbers import exact_value
from data.answers.final_answer import final_answer, same_answer
from data.problems.row_readers import read_row
from data.problems.text_problems import check
from data.records import Problem, read_jsonl
from data.sets.problem_files import set_files
from scaling.config.text_problems import Gsm8k

FOLDER = Path(os.environ.get("GSM8K", Path(__file__).parents[2] / "shared/data/gsm8k"))
pytestmark = pytest.mark.skipif(
    not (FOLDER / "train.jsonl").is_file(),
    reason="needs GSM8K's train.jsonl and test.jsonl: name their folder in the environment variable GSM8K",
)


def never(given, reference):
    raise AssertionError(f"{given!r} and {reference!r} were not told apart before math-verify")


@pytest.fixture(scope="module")
def rows():
    """Every row of both files, as they are published."""
    return [row for split in ("train", "test") for row in read_jsonl(FOLDER / f"{split}.jsonl")]


@pytest.fixture(scope="module")
def answers(rows):
    return [final_answer(row["answer"], ("hashes",)) for row in rows]


def renderings(answer: str) -> list[str]:
    """Ways of writing an answer that change no value."""
    value = exact_value(answer)
    whole, sign = abs(value.numerator), "-" if value < 0 else ""
    texts = [f"{sign}{whole:,}", f"{sign}{whole}.00", f"{sign}${whole}", f"{sign}{whole} apples", f"{sign}{whole}%"]
    texts += [rf"{sign}\frac{{{2 * whole}}}{{2}}", rf"{sign}\dfrac{{{3 * whole}}}{{3}}", f"{sign}{5 * whole}/5"]
    return [*texts, rf"\${sign}{whole}", rf"{sign}{whole}\text{{ dollars per hour}}", f"**{sign}{whole}**."]


def test_both_files_are_whole(rows):
    files = set_files(str(FOLDER))
    assert (files["train"].num_rows, files["test"].num_rows) == (7473, 1319) and len(rows) == 8792


def test_every_answer_is_a_number_and_verifies_against_itself(answers):
    assert all(exact_value(answer) is not None for answer in answers)
    assert all(same_answer(answer, answer, never) for answer in answers)


def test_every_answer_verifies_against_its_renderings(answers):
    for answer in answers:
        for text in renderings(answer):
            assert same_answer(text, answer, never), (text, answer)
            assert final_answer(f"So it is.\n#### {text}", ("hashes",)) == text


def test_no_answer_verifies_against_a_near_miss(answers):
    for answer in answers:
        value = exact_value(answer)
        multiples = (-value, value * 10, value / 10) if value else ()
        for other in (value + 1, value - 1, *multiples):
            assert not same_answer(str(other), answer, never), (other, answer)


def test_every_solution_verifies_and_has_no_calculator_marks(rows):
    config = Gsm8k()
    for index, row in enumerate(rows):
        found = read_row(config, row, f"row {index}")
        verdict = check(config, Problem(found.problem, found.answer), found.solution)
        assert verdict.reward == 1.0 and "<<" not in found.solution
        assert "".join(step.text for step in verdict.steps) == found.solution


@pytest.mark.parametrize("form", ["boxed", "phrase", "last_number"])
def test_the_set_is_imported_in_every_form(rows, form):
    config = Gsm8k(answer_forms=[form])
    for index, row in enumerate(rows):
        found = read_row(config, row, f"row {index}")
        assert check(config, Problem(found.problem, found.answer), found.solution).reward == 1.0
