"""Sets in plain language on their way into the store: rows as published, solutions that verify, duplicates, digests."""

import json
from pathlib import Path

import pandas as pd
import pytest
from stage_config import whole
from tiny_set import gsm8k_folder, gsm8k_rows, own_rows

from data.problems.row_readers import read_row
from data.records import read_jsonl, write_jsonl
from data.sets import problem_source
from data.sets.problem_files import ALL, set_files
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
        ({"prompt": "x"}, "row 7 has None as its 'answer'; expected text or a number. Its keys: prompt"),
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
