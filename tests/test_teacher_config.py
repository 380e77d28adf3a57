"""The section `teacher`: what is part of a stage's identity, what is not, and which mistakes are told."""

import json

import pytest
from pydantic import ValidationError

from scaling.config.sweep import Cell
from scaling.config.teacher import Teacher, how_it_is_asked, joined, what_is_written
from scaling.planning import recipes

PRICES = {"usd_per_million_input_tokens": 2.5, "usd_per_million_output_tokens": 10.0}


def cell(**teacher) -> Cell:
    return Cell.of(**{"problems": {"family": "gsm8k"}, "policy": {"hf": "some/policy"}, "teacher": teacher})


def digest(**teacher) -> str:
    return recipes.synthetic(cell(**teacher), 0).digest


def test_without_a_model_a_stage_is_what_it_was_before_there_were_chat_models():
    stage = recipes.synthetic(Cell.of(), 0)
    assert stage.config["teacher"] == {"keep_unverified": False}
    assert stage.execution == {} and stage.inputs == {}


WRITTEN = {
    "model": "gpt-4.1",
    "temperature": 0.5,
    "max_tokens": 100,
    "request": {"reasoning_effort": "low"},
    "verify": "reference",
    "num_solutions": 3,
    "near_duplicate": 0.5,
    "ngram": 8,
    "keep_unverified": True,
}
ASKED = {
    "endpoint": "http://127.0.0.1:8000/v1",
    "api_key_env": None,
    "max_tokens_key": "max_completion_tokens",
    "send_seed": False,
    "max_concurrency": 3,
    "requests_per_minute": 9.0,
    "timeout_seconds": 9.0,
    "max_tries": 2,
    "max_rejected_in_a_row": 2,
    "budget_tokens": 100,
    "ledger": "/elsewhere",
}


@pytest.mark.parametrize("key", WRITTEN)
def test_what_changes_the_problems_changes_the_stage(key):
    assert digest(**{"model": "gpt-4o", key: WRITTEN[key]}) != digest(model="gpt-4o")


@pytest.mark.parametrize("key", ASKED)
def test_how_they_are_asked_for_does_not(key):
    assert digest(**{"model": "gpt-4o", key: ASKED[key]}) == digest(model="gpt-4o")
    assert digest(model="gpt-4o", **PRICES, budget_usd=1.0) == digest(model="gpt-4o")


def test_every_key_of_the_section_is_one_or_the_other():
    assert {*WRITTEN, *ASKED, *PRICES, "budget_usd", "teachers"} == set(Teacher.model_fields)


def test_the_held_out_problems_are_part_of_the_identity_and_a_named_teacher_of_one_is_the_one():
    stage = recipes.synthetic(cell(model="gpt-4o"), 0)
    assert stage.inputs["problems"] == recipes.fixed_problems(cell())
    assert digest(teachers={"gpt-4o": {"model": "gpt-4o"}}) == digest(model="gpt-4o")
    both = {"a": {"model": "gpt-4o"}, "b": {"model": "gemini-1.5-pro", "share": 2.0}}
    other = {"a": {"model": "gpt-4o"}, "b": {"model": "gemini-1.5-pro", "share": 3.0}}
    assert digest(teachers=both) != digest(teachers=other)


def test_a_stage_reads_what_the_sweep_said_and_its_ledger_is_the_same_wherever_it_runs():
    teacher = Teacher.model_validate({"model": "gpt-4o", **PRICES, **ASKED, "budget_usd": 4.0, "verify": "reference"})
    written, asked = (json.loads(json.dumps(part(teacher))) for part in (what_is_written, how_it_is_asked))
    again = joined(written, asked)
    assert again.named == teacher.named
    for key in ("verify", "near_duplicate", "ngram", "budget_usd", "budget_tokens", "ledger", "max_rejected_in_a_row"):
        assert getattr(again, key) == getattr(teacher, key)
    assert how_it_is_asked(Teacher(model="m"))["ledger"].endswith("/results/ledger")
    assert how_it_is_asked(Teacher(model="m"))["ledger"].startswith("/")


def test_a_key_that_a_recipe_leaves_out_cannot_be_read_in_the_stage():
    teacher = Teacher.model_validate({"model": "gpt-4o"})
    written, asked = what_is_written(teacher), how_it_is_asked(teacher)
    no_ngram = {key: value for key, value in written.items() if key != "ngram"}
    with pytest.raises(AttributeError, match="Teacher has no ngram here"):
        _ = joined(no_ngram, asked).ngram
    alone = {key: value for key, value in asked["teachers"]["gpt-4o"].items() if key != "timeout_seconds"}
    one = joined(written, {**asked, "teachers": {"gpt-4o": alone}}).named["gpt-4o"]
    assert one.endpoint == "https://api.openai.com/v1"
    with pytest.raises(AttributeError, match="NamedTeacher has no timeout_seconds here"):
        _ = one.timeout_seconds
    with pytest.raises(AttributeError, match="has no keep_unverified here"):
        _ = joined({}, {}).keep_unverified


def test_requests_per_attempt():
    assert Teacher(model="m").requests_per_attempt == 3
    assert Teacher(model="m", num_solutions=4).requests_per_attempt == 5
    assert Teacher(model="m", verify="reference").requests_per_attempt == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "m", "teachers": {"a": {"model": "m"}}}, "name one teacher by model, or several"),
        ({"temperature": 0.5, "teachers": {"a": {"model": "m"}}}, "temperature belongs in each of them"),
        ({"model": "m", "budget_usd": 5.0}, "m has no prices"),
        ({"model": "m", "usd_per_million_input_tokens": 5.0}, "only one of the two prices"),
        ({"model": "m", "endpoint": "api.openai.com/v1"}, "expected a URL"),
        ({"model": "m", "endpoint": "https://api.openai.com/v1?key=1"}, "a password or a query in it"),
        ({"model": "m", "request": {"stream": True}}, "sets 'stream'"),
    ],
)
def test_mistakes_are_told(settings, message):
    with pytest.raises(ValidationError, match=message):
        Teacher.model_validate(settings)


def test_a_password_in_an_endpoint_is_refused_by_the_sweep_file_without_being_shown(tmp_path):
    from scaling.config.errors import ConfigError
    from scaling.planning.sweep_file import load_sweep

    path = tmp_path / "sweep.yaml"
    path.write_text(
        "question: q\ngrid: {data_size: [4]}\nseeds: [0]\nproblems: {family: gsm8k}\npolicy: {hf: some/policy}\n"
        "teacher: {model: m, endpoint: 'https://user:sk-secret@host/v1'}\n"
    )
    with pytest.raises(ConfigError, match=r"teacher\.endpoint.*keys come from the environment") as caught:
        load_sweep(path)
    assert "sk-secret" not in str(caught.value)


def test_a_family_of_closed_vocabulary_has_no_chat_teacher():
    with pytest.raises(ValidationError, match="modular_sum writes and solves its problems in a closed vocabulary"):
        Cell.of(**{"teacher": {"model": "gpt-4o"}})


def test_a_chat_teacher_does_not_choose_among_the_problems_of_a_set():
    with pytest.raises(ValidationError, match=r"problems\.solvable chooses"):
        Cell.of(**{"problems": {"family": "gsm8k", "solvable": {}}, "teacher": {"model": "gpt-4o"}})
