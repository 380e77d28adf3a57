"""Outcomes from the logs of evaluation tools: lm-eval's `--log_samples` files and the logs of Inspect AI.

In: a table with a row for each log: file, algorithm, data_size, seed. Out: a row for each run and problem: algorithm,
data_size, seed, problem, wrong. A log says neither how much data its policy was trained on nor with which seed, so
the table does. A fault is an error with the file, the line or sample, what was expected, and the cure.

lm-eval (EleutherAI/lm-evaluation-harness): `samples_TASK_DATE.jsonl`, one line for each document and filter, with
`doc_id`, `doc_hash`, `filter`, and a key for each metric. Inspect AI (UKGovernmentBEIS/inspect_ai): `.json`, or
`.eval`, a zip with one JSON for each sample; each has `id`, `epoch` and `scores`, whose values are C, I, N or numbers.
"""

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.tables.cells import OutcomesError

COLUMNS = ("file", "algorithm", "data_size", "seed")
_NOT_METRICS = ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics")
_RIGHT, _WRONG = ("C", True, 1), ("I", "N", False, 0)  # N: no answer
_CONVERT = "write it as JSON with: inspect log convert FILE --to json --output-dir DIR"


@dataclass(frozen=True)
class Choice:
    """What to take from a log that offers several; None: it offers only one."""

    metric: str | None = None  # lm-eval's metric, Inspect's scorer
    filter: str | None = None  # of lm-eval
    epoch: int | None = None  # of Inspect


def is_index(table: pd.DataFrame) -> bool:
    """Whether a table lists logs."""
    return "file" in table.columns and not {"wrong", "num_wrong"} & set(table.columns)


def read_logs(table: pd.DataFrame, folder: Path, choice: Choice = Choice()) -> pd.DataFrame:
    """The outcomes in the logs that a table lists; files are relative to folder. Raises OutcomesError."""
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise OutcomesError(f"the table lists logs but lacks {', '.join(missing)}; it needs {', '.join(COLUMNS)}.")
    parts = []
    for row in table[list(COLUMNS)].itertuples():
        if pd.isna(row.file):
            raise OutcomesError(f"row {row.Index}: file is empty; give the path of a log.")
        try:
            found = list(_outcomes(folder / str(row.file), choice))
        except OutcomesError as error:
            raise OutcomesError(f"row {row.Index}: {row.file}: {error}") from error
        part = pd.DataFrame(found, columns=["problem", "wrong"])
        part.insert(0, "seed", row.seed)
        part.insert(0, "data_size", row.data_size)
        part.insert(0, "algorithm", row.algorithm)
        parts.append(part)
    if not parts:
        raise OutcomesError("the table lists no log; give a row for each.")
    return pd.concat(parts, ignore_index=True)


def _outcomes(file: Path, choice: Choice) -> Iterator[tuple[str, int]]:
    """(problem, wrong) of one log."""
    if not file.is_file():
        raise OutcomesError("there is no such file; paths are relative to the table.")
    if file.suffix == ".jsonl":
        return _lm_eval(file, choice)
    if file.suffix in (".json", ".eval"):
        return _inspect(file, choice)
    raise OutcomesError(
        f"its name ends in {file.suffix!r}; expected .jsonl (lm-eval, samples_TASK_DATE.jsonl), or .json or .eval"
        " (Inspect AI)."
    )


def _lm_eval(file: Path, choice: Choice) -> Iterator[tuple[str, int]]:
    task = re.sub(r"^samples_|_\d{4}-\d\d-\d\dT[\d:.-]+$", "", file.stem)
    samples = list(_lines(file))
    if not samples:
        raise OutcomesError("line 1: the file is empty; run lm-eval with --log_samples and --output_path.")
    filters = list(dict.fromkeys(str(sample.get("filter", "none")) for _, sample in samples))
    wanted = _only(filters, choice.filter, "filter", "line 1")
    for where, sample in samples:
        if str(sample.get("filter", "none")) != wanted:
            continue
        metrics = [name for name in sample if name not in _NOT_METRICS and not name.endswith("_hash")]
        metrics = [name for name in sample.get("metrics", metrics) if name in sample]
        metric = _only(metrics, choice.metric, "metric", where)
        problem = ":".join(str(sample[key]) for key in ("doc_id", "doc_hash") if key in sample)
        yield f"{task}:{problem}", _wrong(sample[metric], metric, where)


def _lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, sample) of every nonempty line."""
    with file.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                line = raw.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise OutcomesError(f"line {number}: it is not UTF-8 text ({error}); convert it.") from error
            if not line:
                continue
            try:
                sample = json.loads(line)
            except ValueError as error:
                raise OutcomesError(
                    f"line {number}: it is not JSON: {error}; lm-eval writes one sample per line."
                ) from error
            if not isinstance(sample, dict) or "doc_id" not in sample:
                raise OutcomesError(
                    f"line {number}: it has no doc_id, which every sample of lm-eval's --log_samples has; give the file"
                    " samples_TASK_DATE.jsonl, not results_DATE.json."
                )
            yield f"line {number}", sample


def _inspect(file: Path, choice: Choice) -> Iterator[tuple[str, int]]:
    header, samples = _zipped(file) if file.suffix == ".eval" else _plain(file)
    if not isinstance(header, dict):
        raise OutcomesError(f"its header is {str(header)[:40]!r}; expected a mapping, as Inspect AI writes it.")
    if header.get("status") != "success":
        raise OutcomesError(
            f"status is {header.get('status')!r}; only a log of status 'success' has all samples. Finish it with"
            " inspect eval-retry."
        )
    if not samples:
        raise OutcomesError(f"it has no samples. Log them (not --no-log-samples), or {_CONVERT}.")
    task = str(header.get("eval", {}).get("task", ""))
    epochs = [str(epoch) for epoch in sorted({int(sample.get("epoch", 1)) for _, sample in samples})]
    wanted = _only(epochs, None if choice.epoch is None else str(choice.epoch), "epoch", "samples")
    for where, sample in samples:
        if str(sample.get("epoch", 1)) != wanted:
            continue
        scores = sample.get("scores") if isinstance(sample.get("scores"), dict) else None
        scores = scores or ({"score": sample["score"]} if sample.get("score") else {})
        if not scores:
            raise OutcomesError(f"{where}: it has no score, so it failed or was not judged; run it again or score it.")
        scorer = _only(list(scores), choice.metric, "metric", where)
        score = scores[scorer]
        yield f"{task}:{sample['id']}", _wrong(score.get("value") if isinstance(score, dict) else score, scorer, where)


def _plain(file: Path) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    try:
        log = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # UTF-8 errors included
        raise OutcomesError(f"it is not JSON: {error}; expected a log of Inspect AI.") from error
    if not isinstance(log, dict) or not isinstance(log.get("samples"), list):
        raise OutcomesError("it has no samples; expected a log of Inspect AI, with its samples (not only the header).")
    return log, [_known(sample, f"samples[{place}]") for place, sample in enumerate(log["samples"])]


def _zipped(file: Path) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    try:
        with zipfile.ZipFile(file) as log:
            names = log.namelist()
            if "header.json" not in names:
                raise OutcomesError(
                    f"it has no header.json, because the evaluation did not finish; finish it, or {_CONVERT}."
                )
            header = json.loads(log.read("header.json"))
            inside = [name for name in names if name.startswith("samples/") and name.endswith(".json")]
            samples = [_known(json.loads(log.read(name)), name) for name in inside]
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, ValueError) as error:
        if isinstance(error, OutcomesError):
            raise
        raise OutcomesError(f"it cannot be read as a zip of JSON: {error}; {_CONVERT}.") from error
    return header, samples


def _known(sample: Any, where: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(sample, dict) or "id" not in sample:
        raise OutcomesError(f"{where}: it has no id, which every sample of Inspect AI has.")
    return where, sample


def _only(names: list[str], wanted: str | None, what: str, where: str) -> str:
    """The name that was asked for, or the only one there is."""
    listed = ", ".join(names) or "none"
    if wanted is not None and wanted not in names:
        raise OutcomesError(f"{where}: --{what} is {wanted!r}, but there is {listed}.")
    if wanted is None and len(names) != 1:
        raise OutcomesError(f"{where}: it has {len(names)} {what}s: {listed}; choose one with --{what}.")
    return names[0] if wanted is None else wanted


def _wrong(value: object, name: str, where: str) -> int:
    for values, wrong in ((_RIGHT, 0), (_WRONG, 1)):
        if isinstance(value, str | bool | int | float) and value in values:
            return wrong
    raise OutcomesError(
        f"{where}: {name} is {value!r}; expected right or wrong: 1 or 0, or Inspect's C, I or N. Choose another with"
        " --metric."
    )


def checked_choice(arguments: Mapping[str, Any], lists_logs: bool) -> Choice:
    """The choice made on a command line. Raises OutcomesError if one is made but the table lists no logs."""
    names = ("metric", "filter", "epoch")
    given = {name: arguments[name] for name in names if arguments.get(name) is not None}
    if given and not lists_logs:
        raise OutcomesError(f"--{next(iter(given))} goes with a table of logs, with the columns {', '.join(COLUMNS)}.")
    return Choice(**given)
