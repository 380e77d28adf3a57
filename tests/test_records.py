"""Records and JSON lines: what is written comes back, and a damaged file is named with its line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.records import Check, Problem, StepCheck, read_jsonl, read_problems, write_jsonl

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ROWS = st.lists(st.dictionaries(st.text(), VALUES | st.lists(VALUES)))
RIGHT, WRONG_FACT, WRONG_FORM = StepCheck("a", True, True), StepCheck("b", True, False), StepCheck("c", False, True)
UNNEEDED = StepCheck("d", True, True, needed=False, label="unneeded")


@settings(deadline=None)  # a slow disk is no error
@given(ROWS)
def test_json_lines_come_back_as_they_were(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(path, rows)
    assert read_jsonl(path) == rows


def test_a_row_is_a_line_whatever_line_breaks_its_text_has(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"text": "one\ntwo\u2028three"}, {}])
    assert (tmp_path / "rows.jsonl").read_bytes().count(b"\n") == 2


def test_a_number_that_json_does_not_know_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(tmp_path / "rows.jsonl", [{"reward": float("nan")}])


def test_a_file_that_is_cut_short_is_named_with_its_line_and_the_cure(tmp_path):
    path = tmp_path / "synthetic.jsonl"
    write_jsonl(path, [{"prompt": "1 2 3 ?"}, {"prompt": "4 5 6 ?"}])
    path.write_text(path.read_text()[:-6])
    with pytest.raises(ValueError, match=r"synthetic\.jsonl, line 2 is '.*4 5.*not a JSON object.*run the sweep again"):
        read_jsonl(path)


@pytest.mark.parametrize("line", ['{"prompt": "1 2 3 ?"}', "17", '["prompt", "answer"]', "null"])
def test_a_row_without_a_key_that_is_read_is_named_with_its_line(tmp_path, line):
    path = tmp_path / "test.jsonl"
    path.write_text('{"prompt": "1 2 3 ?", "answer": "6"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"test\.jsonl, line 2 is .* a row without '(answer|prompt)'"):
        read_problems(path)
    assert len(read_jsonl(path)) == 2


def test_problems_are_read_from_rows_that_say_more(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "1 2 3 ?", "answer": "6", "completion": "# 6"}])
    assert read_problems(tmp_path / "rows.jsonl") == [Problem("1 2 3 ?", "6", "# 6")]


def test_a_problem_is_identified_by_its_prompt_alone():
    assert Problem("1 2 ?", "3").key == Problem("1 2 ?", "4").key != Problem("2 1 ?", "3").key
    assert len(bytes.fromhex(Problem("1 2 ?", "3").key)) == 8


def test_a_wrong_step_is_spurious_only_where_the_answer_is_right():
    steps = (RIGHT, WRONG_FACT, WRONG_FORM)
    assert Check(1.0, "6", steps).spurious_steps == 2
    assert Check(0.0, "7", steps).spurious_steps == 0
    assert (Check(0.0, "7", steps).num_wrong_facts, Check(0.0, "7", steps).num_procedure_errors) == (1, 1)


def test_a_step_that_is_not_needed_is_right_and_spurious_before_a_right_answer():
    steps = (RIGHT, UNNEEDED, WRONG_FACT, StepCheck("e", True, False, needed=False))
    assert [step.correct for step in steps] == [True, True, False, False]
    assert [step.spurious for step in steps] == [False, True, True, True]
    assert (Check(1.0, "6", steps).spurious_steps, Check(1.0, "6", steps).wrong_steps) == (3, 2)
    assert Check(0.0, "7", steps).spurious_steps == 0
    unjudged = StepCheck("f", None, None)
    assert unjudged.spurious is None and Check(1.0, "6", (unjudged, UNNEEDED)).spurious_steps is None


@pytest.mark.parametrize(
    ("answer", "steps", "kind"),
    [
        ("6", (RIGHT,), "none"),
        ("6", (RIGHT, UNNEEDED), "none"),
        ("6", (RIGHT, WRONG_FACT), "fact"),
        ("6", (WRONG_FORM, WRONG_FACT), "procedure"),
        (None, (RIGHT,), "procedure"),
    ],
)
def test_an_error_of_procedure_outweighs_a_wrong_fact(answer, steps, kind):
    assert Check(0.0, answer, steps).error_kind == kind
