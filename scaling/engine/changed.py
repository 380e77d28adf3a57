"""Report stages that different sources computed under the same version, and accept them on request.

In: stages, a store, and the digest of today's sources of a stage. Out: the kinds that differ; a line for each. What a
user accepts is kept in the store's `accepted.json`: pairs of digests that count as the same. Older records without
digests are not reported.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from scaling.engine.store import Store
from scaling.engine.worker import sources_of
from scaling.files import replace_text
from scaling.kinds import kind_of
from scaling.stage import Stage

ACCEPTED = "accepted.json"
SourcesOf = Callable[[Stage], str | None]  # None if unknown


@dataclass(frozen=True)
class Changed:
    """A kind with stored stages that other sources computed."""

    kind: str
    stages: tuple[Stage, ...]
    digests: frozenset[tuple[str, str]]  # of the record and of today's sources

    @property
    def line(self) -> str:
        """For --plan, --status and the report."""
        count = f"{len(self.stages)} stored {'stage was' if len(self.stages) == 1 else 'stages were'}"
        return (
            f"{self.kind}: {count} computed by different sources than today's, under the same version"
            f" {kind_of(self.kind).version}. --rerun {self.kind} runs them again, --accept keeps them as they are."
        )


def changed(stages: Iterable[Stage], store: Store, today_of: SourcesOf = sources_of) -> list[Changed]:
    """The kinds with stored stages that different sources computed and that are not accepted."""
    accepted = _accepted(store)
    differing: dict[str, list[tuple[Stage, tuple[str, str]]]] = {}
    for stage in stages:
        record = store.record(stage)
        digest = None if record is None else record.get("sources")
        if not isinstance(digest, str):
            continue
        today = today_of(stage)
        if today is not None and digest != today and (stage.kind, digest, today) not in accepted:
            differing.setdefault(stage.kind, []).append((stage, (digest, today)))
    return [
        Changed(kind, tuple(stage for stage, _ in found), frozenset(digests for _, digests in found))
        for kind, found in differing.items()
    ]


def accept(changes: Iterable[Changed], store: Store) -> None:
    """Accept them: from now on the sources in the records count as today's."""
    accepted = _accepted(store)
    accepted |= {(change.kind, *digests) for change in changes for digests in change.digests}
    text = json.dumps(sorted(accepted), indent=1)
    if not store.is_local:
        (store.root / ACCEPTED).write_text(text)
    else:
        replace_text(Path(store.root) / ACCEPTED, text)


def with_descendants(stages: Iterable[Stage], kinds: Iterable[str]) -> list[Stage]:
    """The stages of these kinds and all their descendants; stages: inputs first."""
    wanted = set(kinds)
    found: set[Stage] = set()
    for stage in stages:
        if stage.kind in wanted or found.intersection(stage.inputs.values()):
            found.add(stage)
    return [stage for stage in stages if stage in found]


def _accepted(store: Store) -> set[tuple[str, str, str]]:
    try:
        rows = json.loads((store.root / ACCEPTED).read_text())
        return {(str(kind), str(recorded), str(today)) for kind, recorded, today in rows}
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return set()
