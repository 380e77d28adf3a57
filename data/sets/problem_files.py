"""Which local files a problem set is in, and what a plan can know of them: their content's digest and their rows.

In: the path of a file or a folder. Out: split -> `SetFile`. A folder has train and test, and validation if it likes,
each as NAME.jsonl, NAME.parquet, or as the hub's downloads are called, NAME-00000-of-00001.parquet. A file alone
holds everything: the split is then `all`, to be parted by a seed. Nothing here needs the package datasets.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

SPLITS = ("train", "validation", "test")
ALL = "all"


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
            f"{path} is no file and no folder on this machine; give a .jsonl or .parquet file, or a folder with"
            " train.jsonl and test.jsonl."
        )
    found = {split: _one_of(place, split) for split in SPLITS}
    for split in ("train", "test"):
        if found[split] is None:
            raise ValueError(
                f"{path} holds no {split}.jsonl and no {split}.parquet; add it, or give one file with all rows instead,"
                " which is then parted into train, validation and test."
            )
    return {split: _described(file) for split, file in found.items() if file is not None}


def read_rows(path: Path) -> list[dict]:
    """The rows of a .jsonl or .parquet file, in order."""
    from data.records import read_jsonl

    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path).to_pylist()
    return read_jsonl(path)


def sha256_of(path: Path) -> str:
    """The digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        raise ValueError(f"{path} is no .jsonl and no .parquet file; convert it to JSON lines.")
    state = path.stat()
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache  # a plan asks at every stage
def _read(path: Path, modified: int, size: int) -> SetFile:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return SetFile(path, sha256_of(path), parquet.read_metadata(path).num_rows)
    with path.open("rb") as file:
        return SetFile(path, sha256_of(path), sum(bool(line.strip()) for line in file))
