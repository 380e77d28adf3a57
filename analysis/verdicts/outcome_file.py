"""Read a user's table of outcomes and check that a multiplier can be computed from it.

In: a CSV or parquet file with one row per run and problem, or one row per run with counts; or a CSV that lists the logs
of an evaluation tool. Out: `Outcomes` or `Counts`.
A table that cannot be analysed is an error that names the row or cell and the cure. Rows count from 0, the first below
the header.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from analysis.fitting.bootstrap import MIN_SEEDS
from analysis.fitting.forms import FORMS
from analysis.tables import counts, outcomes
from analysis.tables.cells import Cells, OutcomesError, check_names
from analysis.tables.counts import from_counts
from analysis.tables.eval_logs import checked_choice, is_index, read_logs
from analysis.tables.outcomes import from_parts, from_table
from analysis.verdicts.claims import upper_bound

_PARQUET = (".parquet", ".pq")
_ROWS_AT_ONCE = 1_000_000
MIN_PROBLEMS = 10  # of a test set; fewer do not show how problems differ
MIN_DRAWS = 200  # of the bootstrap; fewer do not determine a 2.5 % quantile


def read_table(path: Path) -> pd.DataFrame:
    """A CSV or parquet file; names of algorithms and problems stay text."""
    if not path.exists():
        raise OutcomesError("it does not exist.")
    try:
        if path.suffix in _PARQUET:
            table = pd.read_parquet(path)
            names = [name for name in ("algorithm", "problem") if name in table]
            return table.assign(**{name: table[name].map(str, na_action="ignore") for name in names})
        head = pd.read_csv(path, header=None, nrows=2, dtype=str)  # a longer second line is an error, not an index
        text = {"algorithm": str, "problem": str, "file": str}
        table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=["", "NA", "NaN", "nan"])
    except pd.errors.EmptyDataError as error:
        raise OutcomesError("it is empty. Give a CSV file with a header and rows, or a parquet file.") from error
    except pd.errors.ParserError as error:
        raise OutcomesError(
            f"a row has more values than the header has names ({str(error).strip()}). Name every column; put a number"
            ' with commas into quotes: "1,024".'
        ) from error
    except (ValueError, OSError) as error:
        raise OutcomesError(f"it cannot be read: {error}".rstrip(".") + ". Give a CSV or parquet file.") from error
    check_names(head.iloc[0].dropna().tolist())
    return table


def read_outcomes(path: Path, reference: str, options: Mapping[str, Any] = MappingProxyType({})) -> Cells:
    """Read, check and arrange; outcomes in parquet part by part, since there may be 10^8. Raises OutcomesError.

    options: those of the command line on what to take from logs, if the table lists logs.
    """
    if path.suffix not in _PARQUET or not path.exists():
        table = read_table(path)
        choice = checked_choice(options, is_index(table))
        return outcomes_of(read_logs(table, path.parent, choice) if is_index(table) else table, reference)
    checked_choice(options, False)
    try:
        file = parquet.ParquetFile(path)
    except (ValueError, OSError) as error:
        raise OutcomesError(f"it cannot be read: {error}".rstrip(".") + ". Give a CSV or parquet file.") from error
    if not set(outcomes.COLUMNS) <= set(file.schema_arrow.names) or _counted(file.schema_arrow.names):
        return outcomes_of(read_table(path), reference)
    found = from_parts(lambda: _parts(file))
    check_usable(found, reference)
    return found


def _parts(file: parquet.ParquetFile) -> Iterator[pd.DataFrame]:
    """The rows in parts of about a million, for any row groups; names as indices into a list of names."""
    held: list[pa.RecordBatch] = []
    for batch in itertools.chain(file.iter_batches(_ROWS_AT_ONCE, columns=list(outcomes.COLUMNS)), [None]):
        if held and (batch is None or sum(map(len, held)) + len(batch) > _ROWS_AT_ONCE):
            table = pa.Table.from_batches(held)
            for name in ("algorithm", "problem"):
                if not pa.types.is_dictionary(table[name].type):
                    place = table.schema.get_field_index(name)
                    table = table.set_column(place, name, table[name].dictionary_encode())
            yield table.unify_dictionaries().to_pandas()
            held = []
        if batch is not None:
            held.append(batch)


def _counted(names: Iterable[str]) -> bool:
    return bool({"num_problems", "num_wrong"} & set(names))


def outcomes_of(table: pd.DataFrame, reference: str) -> Cells:
    """Check a table of outcomes or of counts, and arrange it. Raises OutcomesError."""
    has_counts = _counted(table.columns)
    if has_counts and "wrong" in table.columns:
        raise OutcomesError(
            "the table has both wrong and counts; give either"
            f" {', '.join(outcomes.COLUMNS)}, or {', '.join(counts.COLUMNS)}."
        )
    found = from_counts(table) if has_counts else from_table(table)
    check_usable(found, reference)
    return found


def check_usable(found: Cells, reference: str) -> None:
    """Raise OutcomesError if no multiplier can result: one algorithm, few sizes or runs, errors all 0 or 1."""
    if reference not in found.algorithms:
        names = ", ".join(found.algorithms)
        raise OutcomesError(
            f"no row has the reference {reference!r} as its algorithm; give one of {names} as the reference."
        )
    if len(found.algorithms) < 2:
        raise OutcomesError(f"{reference} is the only algorithm; a multiplier compares two. Add another.")
    if found.num_problems < MIN_PROBLEMS:
        raise OutcomesError(
            f"the table has {found.num_problems} test problems; an interval draws problems again and needs at least"
            f" {MIN_PROBLEMS}. Measure on more."
        )
    for name in found.algorithms:
        cells = found.cells_of(name)
        errors = found.errors[cells]
        for value, meaning in ((0.0, "every problem is solved"), (1.0, "no problem is solved")):
            if (errors == value).all():
                raise OutcomesError(
                    f"the error of {name} is {value:g} at every data size: {meaning}, and such a curve has no slope."
                    f" Measure on {'harder' if value == 0 else 'easier'} problems, or leave {name} out."
                )
    sizes = found.data_size[found.cells_of(reference)]
    needed = FORMS["pow2"].min_sizes
    if len(sizes) < needed:
        listed = " and ".join(f"{size:,}" for size in sizes)
        raise OutcomesError(
            f"the reference {reference} has {len(sizes)} data size{'s' if len(sizes) > 1 else ''} ({listed}); a curve"
            f" needs at least {needed}. Add sizes."
        )
    count = int(found.present[found.cells_of(reference)].any(axis=0).sum())
    others = int(found.present.any(axis=0).sum())
    if count < MIN_SEEDS <= others:
        raise OutcomesError(
            f"the reference {reference} has {count} seed{'s' * (count > 1)}, others have up to {others}; an interval"
            f" needs at least {MIN_SEEDS}, because fewer do not determine the spread between runs. Add seeds."
        )
    for group in np.unique(found.groups):
        cells = found.groups == group
        count = int(found.present[cells].any(axis=0).sum())
        if count < MIN_SEEDS:
            first = int(np.argmax(cells))
            where = f"the cell ({found.algorithm[first]}, data_size={found.data_size[first]})"
            alone = " and shares no seed with other cells" if found.seed_group is not None else " as every cell"
            raise OutcomesError(
                f"{where} has {count} run{'s' if count > 1 else ''}{alone}; an interval needs at least {MIN_SEEDS},"
                " because fewer do not determine the spread between runs. Add seeds."
            )


def parse_claims(text: str, algorithms: tuple[str, ...], reference: str) -> Mapping[str, float | str]:
    """rft=2,dpo=<=1 to claims by algorithm. Raises OutcomesError for an unknown algorithm or no multiplier."""
    known = "|".join(re.escape(name) for name in sorted(algorithms, key=len, reverse=True))
    parts = re.findall(rf"\s*((?:{known})(?==)|[^,=]*)(?:=([^,]*))?(?:,|$)", text)  # a name may hold , and =
    pairs = [(name.strip(), value.strip()) for name, value in parts if name.strip() or value.strip()]
    _check_once([name for name, _ in pairs], "--claims")
    return checked_claims(dict(pairs), algorithms, reference, "--claims")


def parse_sizes(texts: Sequence[str]) -> tuple[int, ...]:
    """Data sizes of --predict. Raises OutcomesError."""
    for text in texts:
        if not text.isdecimal() or int(text) < 1:
            raise OutcomesError(f"--predict is {text!r}; with --reference it is a data size, such as 4096.")
    return tuple(map(int, texts))


def parse_ceiling(text: str, outcomes: Cells, reference: str) -> Mapping[int, float]:
    """4.6, or 32=3.5,512=4.6, to the largest m by data size. Raises OutcomesError."""
    pairs = [part.split("=") for part in text.split(",")]
    try:
        found = {int(size): float(m) for size, m in pairs} if "=" in text else float(text)
    except ValueError as error:
        raise OutcomesError(
            f"--ceiling is {text!r}; give one number, or D=M for data sizes: 32=3.5,512=4.6."
        ) from error
    _check_once([size for size, *_ in pairs], "--ceiling")
    return checked_ceiling(found, outcomes, reference)


def checked_ceiling(ceiling: float | Mapping[int, float], outcomes: Cells, reference: str) -> Mapping[int, float]:
    """The largest m at data sizes of the table; one number applies to all. Raises OutcomesError."""
    sizes = {int(size) for size in outcomes.data_size}
    found = ceiling if isinstance(ceiling, Mapping) else dict.fromkeys(sizes, float(ceiling))
    for size, m in found.items():
        if size not in sizes or not 0 < m < np.inf:
            listed = ", ".join(map(str, sorted(sizes)))
            raise OutcomesError(
                f"the ceiling at D = {size} is {m}; it is a multiplier above 0, at one of the data sizes {listed}."
            )
    for name in outcomes.algorithms:
        own = outcomes.sizes_of(name)
        missing = [str(size) for size in own if size not in found]
        if name != reference and 0 < len(missing) < len(own):  # a claim is tested against the ceilings at all sizes
            raise OutcomesError(
                f"the ceiling is not given at all sizes of {name}; it lacks D = {', '.join(missing)}. Give each of"
                " them, or one number for all."
            )
    return found


def _check_once(names: Sequence[str], option: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise OutcomesError(f"{option} has {name} {names.count(name)} times; give one value for each.")


def checked_pairs(pairs: Sequence[Sequence[str]], algorithms: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Pairs of two different algorithms of the table. Raises OutcomesError for any other."""
    for one, other in pairs:
        for name in (one, other):
            if name not in algorithms:
                raise OutcomesError(
                    f"--compare names {name!r}, but the table's algorithms are {', '.join(algorithms)}."
                )
        if one == other:
            raise OutcomesError(f"--compare names {one!r} twice; name two different algorithms.")
    return tuple((one, other) for one, other in pairs)


def checked_claims(
    claims: Mapping[str, float | str], algorithms: tuple[str, ...], reference: str, place: str = "claims"
) -> Mapping[str, float | str]:
    """Claims by algorithm, numbers as float. place: where they are written, for the message. Raises OutcomesError."""
    checked: dict[str, float | str] = {}
    others = [other for other in algorithms if other != reference]
    for name, value in claims.items():
        part = f"{place} has '{name}={value}'" if str(value) else f"{place} has '{name}'"
        if name not in {*others, *(other.partition(",")[0] for other in others)} or not str(value):
            raise OutcomesError(f"{part}; give ALGORITHM=MULTIPLIER with one of {', '.join(others)}.")
        try:
            is_bound = isinstance(value, str) and value.startswith("<")
            checked[name] = value if is_bound else float(value)
            positive = upper_bound(str(value)) if is_bound else float(value)
        except (TypeError, ValueError) as error:
            raise OutcomesError(f"{part}; give a multiplier such as 2, or one such as <=1.") from error
        if not 0 < positive < np.inf:
            raise OutcomesError(f"{part}; a multiplier must be above 0.")
    return checked
