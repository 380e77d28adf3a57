"""How long the rows of a local problem set are, read when a sweep is planned.

In: the stage that would import the set. Out: `RowLengths`, for estimates of time and memory. Rows are read as the
import reads them, so a plan rejects a row that the import would reject.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from data.problems.row_readers import SetRow, read_row, unseen
from data.sets.problem_files import listed, numbered_rows
from scaling.config.problems import ProblemsInLanguage, problems_in_language_of
from scaling.config.text_problems import Jsonl
from scaling.files import known_sha256_of
from scaling.stage import Stage

_READ = 20_000  # rows of a file, which take about a second; the import checks the rest
_RUN = 5  # rows of a set with a user's verifier, which may start a program for each of them
_KEPT = 500  # solutions


@dataclass(frozen=True)
class RowLengths:
    """Characters of a set's problems, without the instruction, and of its solutions."""

    problem: float  # mean
    longest_problem: int
    solution: float  # mean; 0 if no row has a solution
    solutions: tuple[str, ...]  # the first ones, to be cut into steps
    num_repeated: int  # rows whose problem the set has already
    # File and line of each row to train on that has no solution; empty if none has one, for the set may have none.
    unsolved: tuple[str, ...]


def row_lengths(source: Stage) -> RowLengths | None:
    """Of the files that a stage imports; None where it imports from the hub.

    Raises ValueError or OSError that names the file and the row.
    """
    paths: Mapping[str, str] | None = source.execution.get("paths")
    if paths is None:
        return None
    files = tuple(Path(path) for path in paths.values())
    return _lengths(source, tuple((path, known_sha256_of(path)) for path in files))


@lru_cache(maxsize=32)  # used at every stage of a plan
def _lengths(source: Stage, files: tuple[tuple[Path, str], ...]) -> RowLengths:
    problems = problems_in_language_of(source.config)
    mistakes: list[str] = []
    by_file = {path: list(_rows(problems, path, mistakes)) for path, _ in files}
    named = [one for rows in by_file.values() for one in rows]
    if not mistakes and not named:
        raise ValueError(f"{', '.join(str(path) for path, _ in files)}: there is no row; add some.")
    kept, contradictions = unseen(named, {})
    if mistakes := mistakes + contradictions:
        raise ValueError(listed(mistakes))
    rows = [row for _, row in named]
    lengths = [len(row.problem) for row in rows]
    solutions = [row.solution for row in rows if row.solution is not None]
    trained = [one for path, found in by_file.items() if path.stem not in ("validation", "test") for one in found]
    lacking = tuple(place for place, row in trained if row.solution is None)
    return RowLengths(
        problem=sum(lengths) / len(lengths),
        longest_problem=max(lengths),
        solution=sum(map(len, solutions)) / max(len(solutions), 1),
        solutions=tuple(solutions[:_KEPT]),
        num_repeated=len(rows) - len(kept),
        unsolved=lacking if len(lacking) < len(trained) else (),
    )


def _rows(problems: ProblemsInLanguage, path: Path, mistakes: list[str]) -> Iterator[tuple[str, SetRow]]:
    """The rows with file and line; what is wrong with a row is added to `mistakes`."""
    runs = isinstance(problems, Jsonl) and problems.verifier is not None
    for place, row in islice(numbered_rows(path), _RUN if runs else _READ):
        where = f"{path}, {place}"
        if isinstance(row, ValueError):
            mistakes.append(str(row))
            continue
        try:
            yield where, read_row(problems, row, where)
        except ValueError as error:
            mistakes.append(str(error))
