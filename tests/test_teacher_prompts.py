"""The two prompts and the reading of replies, as models really write them."""

import pytest

from data.teacher.prompts import is_refusal, read_solved, read_written, solve_prompt, write_prompt

WRITTEN = """CREATED QUESTION: Ann has 3 apples. How many?
VERIFICATION AND MODIFICATION: She has 3.
It is fine: nothing to change.
FINAL QUESTION: Ann has 3 apples.
How many apples has she?"""


def test_the_first_prompt_states_the_question_the_fields_and_the_five_rules():
    prompt = write_prompt("  How many {apples}?\n", "a single number", with_answer=False)
    assert "Given question:\nHow many {apples}?\n\n" in prompt and prompt.count("\n- ") == 5
    for field in (
        "CREATED QUESTION:",
        "VERIFICATION AND MODIFICATION:",
        "FINAL QUESTION:",
        "its answer is a single number",
    ):
        assert field in prompt
    assert "FINAL ANSWER" not in prompt
    assert "FINAL ANSWER:" in write_prompt("?", "a number", with_answer=True)


def test_the_second_prompt_asks_for_steps_and_the_answer():
    prompt = solve_prompt("How many?", "a single number")
    assert "Given question:\nHow many?\n\n" in prompt and "SOLUTION:" in prompt and "FINAL ANSWER:" in prompt


def test_fields_are_read_over_several_lines():
    fields = read_written(WRITTEN, with_answer=False)
    assert fields["FINAL QUESTION"] == "Ann has 3 apples.\nHow many apples has she?"
    assert fields["VERIFICATION AND MODIFICATION"] == "She has 3.\nIt is fine: nothing to change."


@pytest.mark.parametrize("frame", ["**{}:** ", "## {}:\n", "{}: ", "> {} : ", "**{}**: "])
def test_headings_in_markdown_are_headings(frame):
    reply = WRITTEN
    for field in ("CREATED QUESTION", "VERIFICATION AND MODIFICATION", "FINAL QUESTION"):
        reply = reply.replace(f"{field}: ", frame.format(field.title()))
    assert read_written(reply, with_answer=False) == read_written(WRITTEN, with_answer=False)


def test_of_a_field_that_is_written_twice_the_last_counts():
    reply = f"{WRITTEN}\nFINAL QUESTION: No, this one?"
    assert read_written(reply, with_answer=False)["FINAL QUESTION"] == "No, this one?"


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "FINAL QUESTION: Only this?",
        WRITTEN.replace("FINAL QUESTION: Ann has 3 apples.\nHow many apples has she?", "FINAL QUESTION:"),
        "FINAL QUESTION: a\nCREATED QUESTION: b\nVERIFICATION AND MODIFICATION: c",
        "The FINAL QUESTION: of CREATED QUESTION: and VERIFICATION AND MODIFICATION: in one line",
    ],
)
def test_a_reply_without_the_form_is_none(reply):
    assert read_written(reply, with_answer=False) is None


def test_the_writers_answer_is_needed_when_it_was_asked_for():
    assert read_written(WRITTEN, with_answer=True) is None
    assert read_written(f"{WRITTEN}\nFINAL ANSWER: **3**", with_answer=True)["FINAL ANSWER"] == "3"


def test_a_solution_keeps_its_lines_and_headings_of_the_other_prompt_are_text_in_it():
    fields = read_solved("SOLUTION: She has 3.\nFinal question: how many?\nSo 3.\n\nFINAL ANSWER: 3\n")
    assert fields == {"SOLUTION": "She has 3.\nFinal question: how many?\nSo 3.", "FINAL ANSWER": "3"}
    assert read_solved("She has 3. FINAL ANSWER: 3") is None


@pytest.mark.parametrize(
    ("reply", "refused"),
    [
        ("I'm sorry, but I can't assist with that.", True),
        ("I’m unable to help.", True),
        ("Sorry, no.", True),
        ("As an AI model, I", True),
        ("CREATED QUESTION: I'm sorry, she said.", False),
        ("I cannoli", False),
        ("", False),
    ],
)
def test_refusals(reply, refused):
    assert is_refusal(reply) is refused
