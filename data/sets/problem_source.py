"""A problem set, taken into the store once: from the hub through `datasets`, or from local files.

In: the set's config, and its files where they are local. Out: one JSON-lines file a split (train, validation, test, or
`all` of a single file) with problem, answer and solution, and `source.json`, which says where they come from. A
problem that a set holds twice is kept once, in test before validation before train, and counted; two different answers
are an error.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.problems.row_readers import SetRow, read_row, unseen
from data.records import write_jsonl
from data.sets.problem_files import ALL, SPLITS, read_rows
from scaling.config.problems import problems_in_language_of
from scaling.config.text_problems import HubProblems
from scaling.files import sha256_of

SOURCE_FILE = "source.json"


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Import. config: problems, and where the set is local files (split -> sha256) and paths (split -> path)."""
    problems = problems_in_language_of(config)
    raw: dict[str, list[dict[str, Any]]]
    if isinstance(problems, HubProblems) and config.get("files") is None:
        raw, source = _from_hub(problems)
    else:
        raw, named_files = {}, {}
        for split, digest in config["files"].items():
            path = Path(config["paths"][split])
            _check_digest(path, digest)
            raw[split] = read_rows(path)
            named_files[split] = {"name": path.name, "sha256": digest}
        source = {"files": named_files}
    seen: dict[str, list[tuple[str, SetRow]]] = {}
    numbers, num_duplicates = {}, 0
    for split in (ALL, *reversed(SPLITS)):
        if split not in raw:
            continue
        named = [(f"{split}, row {index}", row) for index, row in enumerate(raw[split], start=1)]
        rows = [(where, read_row(problems, row, where)) for where, row in named]
        kept, contradictions = unseen(rows, seen)
        if contradictions:
            raise ValueError("\n".join(contradictions))
        write_jsonl(out / f"{split}.jsonl", map(vars, kept))
        numbers[f"num_{split}"] = float(len(kept))
        num_duplicates += len(rows) - len(kept)
    (out / SOURCE_FILE).write_text(json.dumps(source, indent=1) + "\n", encoding="utf-8")
    return {**numbers, "num_duplicates": float(num_duplicates)}


def _from_hub(problems: HubProblems) -> tuple[dict[str, list[dict[str, Any]]], dict[str, object]]:
    """The splits of a set of the hub, and where they come from. Code that comes with a set is never run."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ImportError(
            f"fetching the problem set {problems.hub} needs the package datasets, which is not installed; install the"
            " project with its extra: pip install --editable '.[problems]'. Or give its files in problems.path."
        ) from error
    try:
        found = load_dataset(problems.hub, problems.subset, revision=problems.revision)
    except (OSError, ValueError) as error:  # no network, no such set, no such subset: the message says which
        raise ValueError(
            f"the problem set {problems.hub} ({problems.subset}, revision {problems.revision or 'main'}) could not be"
            f" fetched: {str(error).rstrip('.')}. Check names and network, or give its files in problems.path."
        ) from error
    missing = [split for split in ("train", "test") if split not in found]
    if missing:
        raise ValueError(f"{problems.hub} has no split {missing[0]!r}, only {', '.join(found)}; give files in path.")
    source: dict[str, object] = {"hub": problems.hub, "subset": problems.subset, "revision": problems.revision}
    checksums = found["train"].info.download_checksums or {}
    source["files"] = sorted(map(str, checksums))  # the hub's addresses, with the commit
    return {split: found[split].to_list() for split in SPLITS if split in found}, source


def _check_digest(path: Path, expected: str) -> None:
    found = sha256_of(path)
    if found != expected:
        raise ValueError(
            f"{path} has changed since the sweep was planned: its SHA-256 is {found[:10]}..., expected"
            f" {expected[:10]}...; run the sweep again."
        )
