"""Sets in plain language on their way into the store: rows as published, solutions that verify, duplicates, digests."""

import json
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_config import whole
from tiny_set import gsm8k_folder, gsm8k_rows, own_rows

from data.answers.exact_numbers import exact_value
from data.answers.final_answer import final_answer
from data.problems.row_readers import read_row
from data.records import read_jsonl, write_jsonl
from data.sets import problem_source
from data.sets.problem_files import ALL, read_rows, set_files
from scaling.config.text_problems import Gsm8k, Jsonl, Math


def imported(config, out: Path):
    """The stage on local files; its numbers."""
    files = set_files(config.path)
    digests = {split: file.sha256 for split, file in files.items()}
    paths = {split: str(file.path) for split, file in files.items()}
    problems = config.model_dump(mode="json", exclude={"path"})
    out.mkdir()
    return problem_source.run({"problems": problems, "files": digests, "paths": paths}, {}, out)


def test_a_row_of_gsm8k_loses_its_calculator_marks_unless_they_are_kept():
    row = {"question": "How many? ", "answer": "48/2 = <<48/2=24>>24\nIn all <<48+24=72>>72.\n#### 72"}
    found = read_row(Gsm8k(), row, "row 1")
    assert (found.problem, found.answer) == ("How many?", "72")
    assert found.solution == "48/2 = 24\nIn all 72.\n#### 72"
    assert read_row(Gsm8k(calculator_marks=True), row, "row 1").solution == row["answer"]


def test_the_answer_of_a_row_of_math_is_its_last_box():
    row = {"problem": "Half?", "solution": r"As \boxed{x} is not asked, it is $\boxed{\frac{1}{2}}$.", "level": "1"}
    found = read_row(Math(), row, "row 1")
    assert (found.answer, found.solution) == (r"\frac{1}{2}", row["solution"])


def test_own_rows_have_keys_by_name_numbers_as_answers_and_solutions_if_they_like():
    config = Jsonl(prompt_key="q", answer_key="a", solution_key="s")
    assert read_row(config, {"q": "1+1?", "a": 2}, "row 1").solution is None
    found = read_row(config, {"q": "1+1?", "a": 2, "s": "It is 2."}, "row 1")
    assert (found.answer, found.solution) == ("2", "It is 2.\n#### 2")  # stated in the form that is asked for


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"prompt": "x"},
            "row 7 has no key 'answer'; its keys are prompt. Add it, or name another key in problems.answer_key",
        ),
        ({"Prompt": "x", "answer": 1}, "row 7 has no key 'prompt'; .* Did you mean 'Prompt'"),
        ({"prompt": "x", "answer": None}, "row 7 has None as its 'answer'; expected text or a number"),
        ({"prompt": "x", "answer": True}, "has True as its 'answer'"),
        ({"prompt": " ", "answer": 1}, "row 7 has an empty problem"),
        ({"prompt": "x", "answer": 1, "solution": "no\n#### 2"}, "the solution states '2', but the answer is '1'"),
    ],
)
def test_a_row_that_cannot_be_used_is_an_error_that_names_it(row, message):
    with pytest.raises(ValueError, match=message):
        read_row(Jsonl(), row, "row 7")


def test_a_folder_is_imported_split_by_split_and_says_what_it_was(tmp_path):
    config = Gsm8k(path=str(gsm8k_folder(tmp_path / "set")))
    numbers = imported(config, tmp_path / "out")
    assert numbers == {"num_train": 30.0, "num_test": 12.0, "num_duplicates": 0.0}
    rows = read_jsonl(tmp_path / "out" / "train.jsonl")
    assert rows[1] == {"problem": "How much is 1?", "answer": "1", "solution": "Step 0 is 0.\nStep 1 is 1.\n#### 1"}
    told = json.loads((tmp_path / "out" / "source.json").read_text())
    assert told["files"]["test"]["name"] == "test.jsonl" and str(tmp_path) not in json.dumps(told)


def test_a_problem_that_is_there_twice_is_kept_once_and_out_of_train_where_it_is_tested(tmp_path):
    folder = gsm8k_folder(tmp_path / "set")
    tested = read_jsonl(folder / "test.jsonl")[0]
    again = {**tested, "question": tested["question"].upper().replace(" ", "  ")}
    write_jsonl(folder / "train.jsonl", [*gsm8k_rows(0, 5), gsm8k_rows(3, 1)[0], again])
    numbers = imported(Gsm8k(path=str(folder)), tmp_path / "out")
    assert numbers == {"num_train": 5.0, "num_test": 12.0, "num_duplicates": 2.0}


def test_parquet_files_are_read_as_json_lines_are(tmp_path):
    folder = gsm8k_folder(tmp_path / "set")
    imported(Gsm8k(path=str(folder)), tmp_path / "lines")
    pd.DataFrame(read_jsonl(folder / "train.jsonl")).to_parquet(folder / "train-00000-of-00001.parquet")
    (folder / "train.jsonl").unlink()
    imported(Gsm8k(path=str(folder)), tmp_path / "parquet")
    lines, parquet = (read_jsonl(tmp_path / name / "train.jsonl") for name in ("lines", "parquet"))
    assert lines == parquet


def test_a_file_that_changed_since_the_plan_is_an_error(tmp_path):
    path = own_rows(tmp_path / "rows.jsonl", [{"prompt": "1+1?", "answer": 2}])
    config = whole({"problems": {"family": "jsonl"}, "files": {ALL: "0" * 64}, "paths": {ALL: str(path)}})
    with pytest.raises(ValueError, match=r"rows\.jsonl has changed since the sweep was planned"):
        problem_source.run(config, {}, tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no train.jsonl"),
        (("train.jsonl",), "holds no test.jsonl"),
        (
            ("train.jsonl", "train.parquet", "test.jsonl"),
            "several files of the split train: train.jsonl, train.parquet",
        ),
    ],
)
def test_a_folder_without_its_files_is_an_error_that_names_them(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_text("{}\n")
    with pytest.raises(ValueError, match=message):
        set_files(str(tmp_path))


def test_a_set_is_fetched_through_datasets_by_its_name(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs datasets: pip install -e '.[problems]'")
    splits = {"train": gsm8k_rows(0, 4), "test": gsm8k_rows(9, 2)}
    fetched = datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in splits.items()})
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **options: asked.append((args, options)) or fetched)
    numbers = problem_source.run(whole({"problems": {"family": "gsm8k", "revision": "v1"}}), {}, tmp_path)
    assert asked == [(("openai/gsm8k", "main"), {"revision": "v1"})]
    assert numbers == {"num_train": 4.0, "num_test": 2.0, "num_duplicates": 0.0}
    assert json.loads((tmp_path / "source.json").read_text())["revision"] == "v1"


ROWS = [{"prompt": "1+1?", "answer": 2}, {"prompt": "Half of 3?", "answer": 1.5, "solution": None}]
AS_LINES = "\n".join(map(json.dumps, ROWS))


@pytest.mark.parametrize(
    "text",
    [
        AS_LINES,
        f"\ufeff{AS_LINES}\n",
        f"\n\n{AS_LINES}\n \n\t\n",
        AS_LINES.replace("\n", "\r\n\r\n"),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        f"\ufeff\n{json.dumps(ROWS, indent=2)}\n\n",
        "[" + ",\n".join(map(json.dumps, ROWS)) + "]",
    ],
    ids=["lines", "mark", "blank lines", "CRLF", "array on a line", "array", "marked array", "array of lines"],
)
def test_own_rows_are_read_as_people_write_them(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text.encode())
    config = Jsonl(path=str(path))
    assert set_files(str(path))[ALL].num_rows == 2
    assert imported(config, tmp_path / "out")["num_all"] == 2.0
    assert [row["answer"] for row in read_jsonl(tmp_path / "out" / "all.jsonl")] == ["2", "1.5"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "1+1?", "answer": 2', "rows.jsonl, line 1 is .*, not a JSON object"),
        ('{"prompt": "1+1?", "answer": 1, "answer": 2}', "it has the key 'answer' twice"),
        ('["1+1?", 2]\n["1+2?", 3]', "all, row 1 is .*; expected an object with keys"),
        ('"1+1?"', "all, row 1 is '1\\+1\\?'; expected an object"),
        ('{"prompt": "1+1?", "answer": NaN}', "has nan as its 'answer'; expected text or a number"),
        ('{"prompt": "1+1?", "answer": -Infinity}', "has -inf as its 'answer'"),
        ('{"prompt": "1+1?", "answer": ["2"]}', r"has \['2'\] as its 'answer'"),
        ('{"prompt": "1+1?", "answer": null}', "has None as its 'answer'"),
        ('{"prompt": "1+1? \\ud83d", "answer": 2}', "has half a character in its 'prompt'"),
        (
            '{"prompt": "Who?", "answer": "A\\nB", "solution": "They."}',
            "the answer .* cannot be stated in the form 'hashes'",
        ),
    ],
)
def test_rows_that_cannot_be_read_are_named(tmp_path, text, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        imported(Jsonl(path=str(path)), tmp_path / "out")


def test_a_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(AS_LINES.encode("utf-16"))
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 1 is not UTF-8 text"):
        set_files(str(path))


@given(
    st.one_of(
        st.integers(),
        st.decimals(allow_nan=False, allow_infinity=False),
        st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_a_number_of_a_json_file_keeps_its_value_and_its_digits(number):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text(f'{{"prompt": "x", "answer": {number}}}')
        answer = read_row(Jsonl(), read_rows(path)[0], "row 1").answer
    assert answer == str(number)
    assert exact_value(answer) in (Fraction(str(number)), None)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_of_a_parquet_file_keeps_its_value_and_is_written_in_plain_digits(number):
    answer = read_row(Jsonl(), {"prompt": "x", "answer": number}, "row 1").answer
    assert float(answer) == number
    assert "e" not in answer or abs(number) < 1e-15 or abs(number) > 1e20


def test_numbers_of_32_bits_have_the_digits_of_32_bits(tmp_path):
    frame = pd.DataFrame({"prompt": ["a", "b"], "answer": np.array([0.1, 0.00001], np.float32)})
    frame.to_parquet(tmp_path / "rows.parquet")
    answers = [read_row(Jsonl(), row, "row").answer for row in read_rows(tmp_path / "rows.parquet")]
    assert list(map(exact_value, answers)) == [Fraction(1, 10), Fraction(1, 100_000)]


def test_a_problem_with_two_answers_is_an_error_that_names_both_rows(tmp_path):
    rows = [{"prompt": "1+1?", "answer": 2}, {"prompt": "1+2?", "answer": 3}, {"prompt": " 1+1?", "answer": "2.5"}]
    path = own_rows(tmp_path / "rows.jsonl", rows)
    message = r"all, row 3 is the problem of all, row 1, '1\+1\?', but its answer is '2.5' and not '2'"
    with pytest.raises(ValueError, match=message):
        imported(Jsonl(path=str(path)), tmp_path / "out")
    own_rows(path, [*rows[:2], {"prompt": "1+1?", "answer": "2.0"}])
    assert imported(Jsonl(path=str(path)), tmp_path / "again") == {"num_all": 2.0, "num_duplicates": 1.0}


def test_problems_that_differ_in_capitals_and_in_their_answers_are_two(tmp_path):
    rows = [{"prompt": "How much is x?", "answer": 2}, {"prompt": "How much is X?", "answer": 3}]
    path = own_rows(tmp_path / "rows.jsonl", rows)
    assert imported(Jsonl(path=str(path)), tmp_path / "out") == {"num_all": 2.0, "num_duplicates": 0.0}


@pytest.mark.parametrize(
    ("form", "solution", "ending"),
    [
        ("phrase", "The answer is therefore near.\nWe count 36.", "The answer is 36."),
        ("phrase", "So the answer is 3 on the way.\nWe count 36.", "The answer is 36."),
        ("phrase", "The answer is:\n36", "36"),
        ("last_number", "36 pens are in 3 boxes.", "The answer is 36."),
        ("boxed", "We count 36.", "The answer is $\\boxed{36}$."),
    ],
)
def test_a_solution_that_states_something_else_on_the_way_gets_its_statement(form, solution, ending):
    found = read_row(Jsonl(answer_forms=[form]), {"prompt": "x", "answer": 36, "solution": solution}, "row 1")
    assert found.solution.splitlines()[-1] == ending
    assert final_answer(found.solution, [form]) == "36"


@pytest.mark.parametrize("form", ["phrase", "boxed", "hashes"])
def test_a_solution_that_ends_with_another_answer_is_an_error(form):
    ending = {"phrase": "The answer is 35.", "boxed": r"\boxed{35}", "hashes": "#### 35"}[form]
    row = {"prompt": "x", "answer": 36, "solution": f"We count.\n{ending}"}
    with pytest.raises(ValueError, match="the solution states '35', but the answer is '36'"):
        read_row(Jsonl(answer_forms=[form]), row, "row 1")
