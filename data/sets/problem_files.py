"""The local files of a problem set: their rows, and the digest of their content for a plan.

In: the path of a file or a folder. Out: split -> `SetFile`. A folder has train and test, and optionally validation,
each as NAME.jsonl, NAME.parquet, or as the hub's downloads are called, NAME-00000-of-00001.parquet. A single file
holds everything: the split is then `all`, to be split by a seed. Nothing here needs the package datasets.

Rows are read as people write them: with blank lines, a byte-order mark, or as one JSON array. A number keeps the digits
that it is written with: 0.00001 does not become 1e-05, nor 0.1 of 32 bits 0.10000000149011612.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from scaling.files import known_sha256_of

SPLITS = ("train", "validation", "test")
ALL = "all"
_SHOWN = 10  # mistakes


@dataclass(frozen=True)
class SetFile:
    """One file of rows."""

    path: Path
    sha256: str  # of its content
    num_rows: int


def set_files(path: str) -> Mapping[str, SetFile]:
    """The files of a set. Raises ValueError or OSError that names the path."""
    place = Path(path).expanduser().resolve()
    if place.is_file():
        return {ALL: _described(place)}
    if not place.is_dir():
        raise ValueError(
            f"problems.path is {path}, neither a file nor a folder on this machine; give a .jsonl or .parquet file,"
            " or a folder with train.jsonl and test.jsonl."
        )
    found = {split: _one_of(place, split) for split in SPLITS}
    for split in ("train", "test"):
        if found[split] is None:
            raise ValueError(
                f"problems.path is {path}, which holds no {split}.jsonl and no {split}.parquet; add it, or give one"
                " file with all rows instead, which is then split into train, validation and test."
            )
    return {split: _described(file) for split, file in found.items() if file is not None}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl or .parquet file, in order; a number of JSON is the text that it is written as."""
    rows = [row for _, row in numbered_rows(path)]
    if mistakes := [str(row) for row in rows if isinstance(row, ValueError)]:
        raise ValueError(listed(mistakes))
    return rows


def numbered_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """The place of each row, such as `line 3`, and the row, or the ValueError of a line that is no JSON."""
    if path.suffix == ".parquet":
        yield from ((f"row {number}", row) for number, row in enumerate(_parquet_rows(path), start=1))
    elif _is_array(text := _text(path)):
        yield from ((f"row {number}", row) for number, row in enumerate(_json(text, f"{path}"), start=1))
    else:
        for number, line in _lines(text):
            try:
                yield f"line {number}", _json(line, f"{path}, line {number}")
            except ValueError as error:
                yield f"line {number}", error


def listed(mistakes: Sequence[str]) -> str:
    """A line for each of the first mistakes, and how many more there are."""
    more = [f"... and {len(mistakes) - _SHOWN} more like these."] if len(mistakes) > _SHOWN else []
    return "\n".join([*mistakes[:_SHOWN], *more])


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(path)
    for index, column in enumerate(table.schema):
        if column.type in (pyarrow.float16(), pyarrow.float32()):
            texts = [None if value is None else str(value) for value in table[column.name].to_numpy()]
            table = table.set_column(index, column.name, pyarrow.array(texts, pyarrow.string()))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line} is not UTF-8 text ({error}); save the file as UTF-8.") from error


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, and their numbers."""
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _is_array(text: str) -> bool:
    """Whether the text as a whole is one array. A line that is an array of its own is reported later."""
    first_line = text.strip().partition("\n")[0].rstrip()
    return first_line.startswith("[") and (first_line == text.strip() or not first_line.endswith("]"))


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is {text[:60]!r}, not a JSON object ({error}); correct or remove it.") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"it has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return found


def _one_of(folder: Path, split: str) -> Path | None:
    names = (f"{split}.jsonl", f"{split}.parquet", f"{split}-*.parquet")
    found = sorted(file for name in names for file in folder.glob(name))
    if len(found) > 1:
        raise ValueError(
            f"{folder} holds several files of the split {split}: {', '.join(file.name for file in found)}; keep one."
        )
    return found[0] if found else None


def _described(path: Path) -> SetFile:
    if path.suffix not in (".jsonl", ".parquet"):
        raise ValueError(f"{path} is neither a .jsonl nor a .parquet file; convert it to JSON lines, and name it so.")
    sha256 = known_sha256_of(path)
    return SetFile(path, sha256, _num_rows(path, sha256))


@lru_cache  # called at every stage of a plan
def _num_rows(path: Path, sha256: str) -> int:
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        try:
            return int(parquet.read_metadata(path).num_rows)
        except pyarrow.ArrowInvalid as error:
            raise ValueError(f"{path} is not a parquet file ({error}); write it again.") from error
    text = _text(path)
    return len(_json(text, f"{path}")) if _is_array(text) else sum(1 for _ in _lines(text))
