"""data.sets.row_lengths and scaling.pricing.lengths: what a plan learns from the rows of a local set."""

import json
import re

import pytest
from tiny_set import gsm8k_folder

from data.records import write_jsonl
from data.sets.row_lengths import row_lengths
from scaling.config.errors import ConfigError
from scaling.config.sweep import Cell
from scaling.planning import recipes
from scaling.planning.checks import check_set
from scaling.planning.set_stages import problem_source
from scaling.pricing.lengths import CHARACTERS_PER_TOKEN, expected, expected_steps, longest
from scaling.stage import in_order

ROWS = [
    {"prompt": "abcd", "answer": "1", "solution": "one\ntwo\n#### 1"},
    {"prompt": "ab" * 50, "answer": "2", "solution": "four\n#### 2"},
]


def cell_of(path, **problems):
    settings = {"family": "jsonl", "path": str(path), "num_validation": 1, "num_test": 1, "answer_forms": ["hashes"]}
    policy = {"hf": "deepseek-ai/deepseek-math-7b-base"}
    return Cell.of(**{"algorithm": "rft", "data_size": 1, "problems": settings | problems, "policy": policy})


def by_kind(cell):
    return {stage.kind: stage for stage in in_order([recipes.evaluation(cell, 0)])}


def test_lengths_are_those_of_the_rows(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    found = row_lengths(problem_source(cell_of(tmp_path / "rows.jsonl").problems)["source"])
    assert (found.problem, found.longest_problem) == (52.0, 100)
    assert found.solution == (len(ROWS[0]["solution"]) + len(ROWS[1]["solution"])) / 2
    assert found.solutions == tuple(row["solution"] for row in ROWS)
    write_jsonl(tmp_path / "rows.jsonl", ROWS[:1])  # a changed file is read again
    assert row_lengths(problem_source(cell_of(tmp_path / "rows.jsonl").problems)["source"]).problem == 4.0


def test_time_is_planned_by_mean_lengths_and_memory_by_the_longest(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    stages = by_kind(cell_of(tmp_path / "rows.jsonl"))
    _, mean_prompt, mean_completion = expected(stages["rollouts"])
    _, longest_prompt, longest_completion = longest(stages["rollouts"])
    assert longest_prompt - mean_prompt == pytest.approx((100 - 52) / CHARACTERS_PER_TOKEN)
    assert mean_completion < longest_completion == 1024 + 1
    assert expected_steps(stages["verification"]) == 2.5  # lines
    written_limit = {"max_new_tokens": 3}
    short = by_kind(Cell.of(**{**cell_of(tmp_path / "rows.jsonl").model_dump(mode="json"), "rollouts": written_limit}))
    assert expected(short["rollouts"])[2] == 3


def test_a_plan_names_the_row_that_the_import_would_reject(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [*ROWS, {"prompt": "x", "answr": "3"}]) + "\n")
    cell = cell_of(path)
    with pytest.raises(ConfigError, match=r"rows\.jsonl, line 3 has no key 'answer'; its keys are prompt, answr"):
        check_set(cell, cell.problems)
    path.write_text(json.dumps(ROWS[0]) + "\n" + '{"prompt": ' + "\n")
    with pytest.raises(ConfigError, match=r"rows\.jsonl, line 2 is .* not a JSON object"):
        check_set(cell, cell.problems)


@pytest.mark.parametrize(
    ("rows", "messages"),
    [
        (
            ["", "nonsense", '{"prompt": 1}', "5"],
            ["line 4 is 'nonsense'", "line 5 has no key 'answer'", "line 6 is '5'"],
        ),
        (
            ['{"prompt": "abcd", "answer": 7, "solution": "#### 7"}'],
            ["line 3 is the problem of .*, line 1, 'abcd', but"],
        ),
        (['{"prompt": "x", "answer": 7}'], ["line 3 has no solution to learn from; add solutions"]),
        ([json.dumps(ROWS[0])] * 5, []),
        (["{}"] * 15, [f"line {line} has no key 'prompt'" for line in range(3, 13)] + ["and 5 more like these"]),
    ],
)
def test_a_plan_names_all_rows_that_cannot_be_used(tmp_path, rows, messages):
    path = tmp_path / "rows.jsonl"
    third = {"prompt": "c", "answer": "3", "solution": "#### 3"}
    path.write_text("\n".join([*map(json.dumps, ROWS), *rows, json.dumps(third)]))
    cell = cell_of(path)
    if not messages:
        return check_set(cell, cell.problems)
    with pytest.raises(ConfigError) as error:
        check_set(cell, cell.problems)
    lines = str(error.value).splitlines()
    assert len(lines) == len(messages)
    assert all(re.search(message, line) for message, line in zip(messages, lines, strict=True))


def test_problems_that_are_there_twice_are_not_counted_twice(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", ROWS * 9)
    cell = cell_of(tmp_path / "rows.jsonl")
    with pytest.raises(ConfigError, match="but the set has 2 problems in all"):
        check_set(cell, cell.problems)


def test_a_set_of_the_hub_is_planned_without_its_rows(tmp_path):
    hub = Cell.of(
        **{"data_size": 8, "problems": {"family": "gsm8k"}, "policy": {"hf": "deepseek-ai/deepseek-math-7b-base"}}
    )
    local = cell_of(gsm8k_folder(tmp_path / "set"), family="gsm8k", num_test=8, num_validation=6)
    assert row_lengths(problem_source(hub.problems)["source"]) is None
    _, prompt, completion = expected(by_kind(hub)["sft"])
    assert 100 < prompt < longest(by_kind(hub)["sft"])[1] and 80 < completion < 130
    assert expected(by_kind(local)["sft"])[1] < prompt  # of its own short rows
