"""analysis.tables.eval_logs: logs of lm-eval and Inspect AI become outcomes, and a fault says where and the cure."""

import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from planted import planted

from analysis.fit import main
from analysis.tables.cells import OutcomesError
from analysis.tables.eval_logs import Choice, read_logs

LM_EVAL = "samples_gsm8k_2026-11-30T10-00-00.123456.jsonl"


def lm_sample(doc_id: int, right: bool, filter_name: str | None = "strict-match", **more) -> dict:
    """As lm_eval.loggers.evaluation_tracker writes it."""
    return {
        "doc_id": doc_id,
        "doc": {"question": "2 + 2?", "answer": "#### 4"},
        "target": "#### 4",
        "arguments": {"gen_args_0": {"arg_0": "Question: 2 + 2?\nAnswer:", "arg_1": {"until": ["Question:"]}}},
        "resps": [["4"]],
        "filtered_resps": ["4"],
        **({} if filter_name is None else {"filter": filter_name, "metrics": ["exact_match"]}),
        "doc_hash": f"{doc_id:064x}",
        "prompt_hash": "b" * 64,
        "target_hash": "c" * 64,
        "exact_match": float(right),
        **more,
    }


def inspect_sample(number: int | str, value: object, epoch: int = 1, scorer: str = "match") -> dict:
    """As inspect_ai writes an EvalSample."""
    return {
        "id": number,
        "epoch": epoch,
        "input": "2 + 2?",
        "target": "4",
        "messages": [{"role": "user", "content": "2 + 2?"}],
        "output": {"model": "mockllm/model", "choices": []},
        "scores": {scorer: {"value": value, "answer": "4"}},
        "metadata": {},
    }


def inspect_log(samples: list[dict], status: str = "success") -> dict:
    spec = {"task": "gsm8k", "model": "mockllm/model", "created": "2026-11-30T10:00:00+00:00"}
    return {"version": 2, "status": status, "eval": spec, "samples": samples}


def write_lines(path: Path, samples: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples), encoding="utf-8")
    return path


def write_eval(path: Path, log: dict) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("_journal/start.json", json.dumps({"version": 2, "eval": log["eval"]}))
        for sample in log["samples"]:
            file.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        file.writestr("header.json", json.dumps({key: log[key] for key in ("version", "status", "eval")}))
    return path


def read(path: Path, choice: Choice = Choice()) -> list[tuple[str, int]]:  # noqa: B008  (it is frozen)
    table = pd.DataFrame([(path.name, "sft", 64, 0)], columns=["file", "algorithm", "data_size", "seed"])
    found = read_logs(table, path.parent, choice)
    assert found[["algorithm", "data_size", "seed"]].drop_duplicates().to_numpy().tolist() == [["sft", 64, 0]]
    return list(zip(found["problem"], found["wrong"], strict=True))


def test_lm_eval_gives_each_document_once(tmp_path):
    lines = [lm_sample(0, True), lm_sample(1, False), lm_sample(0, True, "flexible"), lm_sample(1, True, "flexible")]
    path = write_lines(tmp_path / LM_EVAL, lines)
    assert read(path, Choice(filter="strict-match")) == [(f"gsm8k:0:{0:064x}", 0), (f"gsm8k:1:{1:064x}", 1)]
    assert [wrong for _, wrong in read(path, Choice(filter="flexible"))] == [0, 0]
    with pytest.raises(OutcomesError, match=r"row 0: samples_.*line 1: it has 2 filters: strict-match, flexible;"):
        read(path)


def test_an_older_lm_eval_log_has_metrics_without_their_names(tmp_path):
    path = write_lines(tmp_path / LM_EVAL, [lm_sample(0, True, None, acc=0.0), lm_sample(1, False, None, acc=1.0)])
    assert [wrong for _, wrong in read(path, Choice("acc"))] == [1, 0]
    with pytest.raises(OutcomesError, match="line 1: it has 2 metrics: exact_match, acc; choose one with --metric"):
        read(path)
    with pytest.raises(OutcomesError, match="line 1: --metric is 'f1', but there is exact_match, acc"):
        read(path, Choice("f1"))


@pytest.mark.parametrize("ending", [".json", ".eval"])
def test_inspect_gives_right_and_wrong(tmp_path, ending):
    values = ["C", "I", "N", 1, 0.0, True]
    log = inspect_log([inspect_sample(f"q{place}", value) for place, value in enumerate(values)])
    path = tmp_path / f"2026-11-30T10-00-00+00-00_gsm8k_x{ending}"
    write_eval(path, log) if ending == ".eval" else path.write_text(json.dumps(log))
    assert read(path) == [(f"gsm8k:q{place}", wrong) for place, wrong in enumerate([0, 1, 1, 0, 1, 0])]


def test_inspect_takes_one_epoch_and_one_scorer(tmp_path):
    both = {"match": {"value": "C"}, "model_graded": {"value": "I"}}
    samples = [inspect_sample(1, "C") | {"scores": both}, inspect_sample(1, "I", epoch=2)]
    path = tmp_path / "log.json"
    path.write_text(json.dumps(inspect_log(samples)))
    assert read(path, Choice("match", epoch=1)) == [("gsm8k:1", 0)]
    assert read(path, Choice("model_graded", epoch=1)) == [("gsm8k:1", 1)]
    assert read(path, Choice(epoch=2)) == [("gsm8k:1", 1)]
    with pytest.raises(OutcomesError, match="samples: it has 2 epochs: 1, 2; choose one with --epoch"):
        read(path)
    with pytest.raises(OutcomesError, match=r"samples\[0\]: it has 2 metrics: match, model_graded; choose one"):
        read(path, Choice(epoch=1))


def wrong_files(folder: Path) -> dict[str, tuple[Path, str]]:
    line = json.dumps(lm_sample(0, True))
    bad_zip = folder / "broken.eval"
    bad_zip.write_bytes(b"not a zip")
    no_header = folder / "unfinished.eval"
    with zipfile.ZipFile(no_header, "w") as file:
        file.writestr("samples/1_epoch_1.json", json.dumps(inspect_sample(1, "C")))

    latin = folder / "latin.jsonl"
    latin.write_bytes('{"doc_id": 0, "text": "é"}\n'.encode("latin-1"))

    def text(name: str, content: str) -> Path:
        (folder / name).write_text(content, encoding="utf-8")
        return folder / name

    return {
        "absent": (folder / "none.jsonl", "there is no such file; paths are relative to the table"),
        "ending": (text("log.txt", ""), "its name ends in '.txt'; expected .jsonl"),
        "empty": (text("empty.jsonl", ""), "line 1: the file is empty; run lm-eval with --log_samples"),
        "not JSON": (text("cut.jsonl", f"{line}\n{line[:40]}\n"), "line 2: it is not JSON"),
        "results": (text("results.jsonl", '{"results": {}}\n'), "line 1: it has no doc_id.*samples_TASK_DATE.jsonl"),
        "share": (
            text("share.jsonl", f"{line}\n{json.dumps(lm_sample(1, True) | {'exact_match': 0.5})}\n"),
            "line 2: exact_match is 0.5; expected right or wrong",
        ),
        "header": (text("header.json", '{"status": "success", "eval": {}}'), "it has no samples; expected a log"),
        "running": (text("running.json", json.dumps(inspect_log([], "started"))), "status is 'started'; only a log"),
        "none": (text("none.json", json.dumps(inspect_log([]))), "it has no samples. Log them"),
        "failed": (
            text("failed.json", json.dumps(inspect_log([inspect_sample(1, "C") | {"scores": None}]))),
            r"samples\[0\]: it has no score, so it failed",
        ),
        "partial": (
            text("partial.json", json.dumps(inspect_log([inspect_sample(1, "P")]))),
            r"samples\[0\]: match is 'P'; expected right or wrong",
        ),
        "zip": (bad_zip, "it cannot be read as a zip of JSON: .*inspect log convert"),
        "blank": (text("blank.jsonl", "\n\n"), "line 1: the file is empty"),
        "encoding": (latin, "line 1: it is not UTF-8 text"),
        "list": (
            text("list.json", json.dumps(inspect_log([inspect_sample(1, "C") | {"scores": ["C"]}]))),
            "no score",
        ),
        "unfinished": (no_header, "it has no header.json, because the evaluation did not"),
    }


@pytest.mark.parametrize("name", [
    *("absent", "ending", "empty", "not JSON", "results", "share", "header", "running", "none", "failed", "partial"),
    *("zip", "unfinished", "blank", "encoding", "list"),
])  # fmt: skip
def test_a_wrong_file_is_one_error_with_place_expectation_and_cure(tmp_path, name):
    path, expected = wrong_files(tmp_path)[name]
    with pytest.raises(OutcomesError, match=f"row 0: {path.name}: .*{expected}") as found:
        read(path)
    assert "\n" not in str(found.value)


def test_a_table_of_logs_names_its_columns(tmp_path):
    with pytest.raises(OutcomesError, match="lacks data_size, seed; it needs file, algorithm, data_size, seed"):
        read_logs(pd.DataFrame([("a.jsonl", "sft")], columns=["file", "algorithm"]), tmp_path)
    empty = pd.DataFrame([(None, "sft", 1, 0)], columns=["file", "algorithm", "data_size", "seed"])
    with pytest.raises(OutcomesError, match="row 0: file is empty"):
        read_logs(empty, tmp_path)


def test_the_command_fits_a_table_of_logs_as_it_fits_their_outcomes(tmp_path, capsys):
    outcomes = planted({"sft": 1.0, "rft": 2.0}, num_problems=40)
    rows = []
    for (algorithm, size, seed), run in outcomes.groupby(["algorithm", "data_size", "seed"], sort=False):
        folder = f"{algorithm}-{size}-{seed}"
        lines = [lm_sample(place, not wrong) for place, wrong in enumerate(run["wrong"])]
        write_lines(tmp_path / folder / LM_EVAL, lines)
        rows.append((f"{folder}/{LM_EVAL}", algorithm, size, seed))
    index = tmp_path / "runs.csv"
    pd.DataFrame(rows, columns=["file", "algorithm", "data_size", "seed"]).to_csv(index, index=False)
    read_logs(pd.read_csv(index), tmp_path).to_csv(tmp_path / "outcomes.csv", index=False)
    common = ["--reference", "sft", "--draws", "200"]
    assert main([str(index), *common, "--metric", "exact_match", "--out", str(tmp_path / "logs")]) == 0
    assert main([str(tmp_path / "outcomes.csv"), *common, "--out", str(tmp_path / "plain")]) == 0
    one, other = ((tmp_path / name / "multipliers.csv").read_text() for name in ("logs", "plain"))
    assert one == other
    assert "--metric exact_match" in (tmp_path / "logs" / "report.md").read_text()
    capsys.readouterr()
    assert main([str(tmp_path / "outcomes.csv"), *common, "--epoch", "1", "--out", str(tmp_path / "no")]) == 2
    assert "--epoch goes with a table of logs" in capsys.readouterr().err
    (tmp_path / "sft-64-0" / LM_EVAL).write_text("{}\n")
    assert main([str(index), *common, "--out", str(tmp_path / "no")]) == 2
    said = capsys.readouterr().err
    assert "runs.csv: row 0: sft-64-0/" in said and "line 1: it has no doc_id" in said and said.count("\n") == 1
