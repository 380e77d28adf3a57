"""Records by name: those of this project, and those that a module from outside registers (docs/plugins.md).

In: the built-in records. Out: `Registry`, which has no default for an unknown name. A record from outside carries
the digest of the module that registers it, as its `source`, into the identity of what is computed by it.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar, cast


class Named(Protocol):
    """A record with a name."""

    @property
    def name(self) -> str: ...


Record = TypeVar("Record", bound=Named)


class Registry(Generic[Record]):
    """The known records, the built-in ones first."""

    def __init__(self, what: str, built_in: Iterable[Record] = (), hint: str = "") -> None:
        """what: for messages, such as "stage kind". hint: a sentence on where unknown ones come from."""
        self.built_in: Mapping[str, Record] = {record.name: record for record in built_in}
        self.records = dict(self.built_in)
        self._what, self._hint = what, f" {hint}" if hint else ""

    def of(self, name: str) -> Record:
        """The record of a name. Raises ValueError for an unknown name."""
        if name not in self.records:
            known = ", ".join(self.records) or "none"
            raise ValueError(f"there is no {self._what} {name!r}; known: {known}.{self._hint}")
        return self.records[name]

    def every(self) -> tuple[Record, ...]:
        return tuple(self.records.values())

    def names(self) -> tuple[str, ...]:
        return tuple(self.records)

    def register(self, record: Record) -> Record:
        """Add a record from outside. Raises ValueError if another one has its name."""
        if self.records.setdefault(record.name, record) != record:
            owner = "built in" if record.name in self.built_in else "already registered, with another record"
            raise ValueError(f"the {self._what} {record.name!r} is {owner}; give yours another name.")
        return record


@contextlib.contextmanager
def registering(source: str) -> Iterator[None]:
    """Stamp the records registered inside with the digest of the module that registers them."""
    global _source_being_imported
    before, _source_being_imported = _source_being_imported, source
    try:
        yield
    finally:
        _source_being_imported = before


def stamped(record: Record) -> Record:
    """The record with the digest of the module that is being imported from outside as its `source`, if it has none."""
    found: Record = replace(cast(Any, record), source=cast(Any, record).source or _source_being_imported)
    return found


_source_being_imported = ""  # empty for this project's own modules
