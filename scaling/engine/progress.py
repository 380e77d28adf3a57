"""Show the progress of an execution: a line per stage change and a status line; on a terminal also a live table.

In: the events of scaling.engine.run, and a rich console to write to. Out: text. It is for people only;
no code reads it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scaling.engine.eta import Calibration, seconds_to_go, spoken
from scaling.engine.lease import Holder
from scaling.stage import Stage

STATUS_SECONDS = 10.0  # between status lines where there is no terminal


@dataclass
class Progress:
    """The state of one execution while it runs."""

    console: Console
    clock: Callable[[], float] = time.monotonic
    later: Sequence[Stage] = ()  # stages of the sweep that no execution runs yet, inputs first; they count in the ETA
    _left: dict[Stage, None] = field(default_factory=dict)  # in order
    _started: dict[Stage, float] = field(default_factory=dict)  # running here -> clock
    _counts: Counter[str] = field(default_factory=Counter)
    _kinds: dict[str, Counter[str]] = field(default_factory=dict)
    _elsewhere: set[Stage] = field(default_factory=set)
    _slots: int = 1
    _calibration: Calibration = field(init=False)  # from `begin` on
    _live: Live | None = None
    _status_at: float = float("-inf")

    def begin(self, to_run: Sequence[Stage], reused: Sequence[Stage], cost: Callable[[Stage], float]) -> None:
        """The stages that will run, inputs first, and the stored ones that will not."""
        self._left = dict.fromkeys(to_run)
        self._calibration = Calibration(cost)
        for stage in to_run:
            self._kinds.setdefault(stage.kind, Counter())["all"] += 1
        if reused:
            self._print(f"{len(reused)} stages are stored already, {len(to_run)} to run.")
        if self.console.is_terminal and to_run:
            self._live = Live(self._table(), console=self.console, auto_refresh=False, transient=True)
            self._live.start()

    def started(self, stage: Stage) -> None:
        """The stage runs here."""
        self._elsewhere.discard(stage)
        self._change("start", stage)
        self._started[stage] = self.clock()
        self._slots = max(self._slots, len(self._started))

    def done(self, stage: Stage, record: Mapping[str, Any]) -> None:
        """The stage's artifact is committed."""
        self._calibration.observe(stage, self.clock() - self._started[stage])
        self._settle("done", "done", stage, spoken(record["wall_seconds"]))

    def reused(self, stage: Stage) -> None:
        """Another sweep has made the artifact meanwhile."""
        self._settle("done", "reuse", stage, "made by another sweep")

    def failed(self, stage: Stage, failure: Mapping[str, Any]) -> None:
        """The stage raised."""
        self._settle("failed", "fail", stage, f"{failure['error']} (log: {failure['log']})")

    def blocked(self, stage: Stage, cause: Stage) -> None:
        """The stage cannot run, because one it descends from failed."""
        self._settle("blocked", "block", stage, f"by {cause.name}")

    def lost(self, stage: Stage, reason: str) -> None:
        """The stage's worker died; the stage will run again."""
        self._change("lost", stage, f"its worker died and is replaced: {' '.join(reason.split())[:200]}")

    def paused(self, stage: Stage, seconds: float) -> None:
        """Ray ended the stage's worker for lack of memory; the stage waits and runs again."""
        why = "Ray ended its worker because the node's memory is almost full"
        self._change("pause", stage, f"{why}; it runs again in {spoken(seconds)}")

    def returned(self, stage: Stage, reason: str) -> None:
        """The stage had no worker and is ready again."""
        self._change("wait", stage, reason)

    def elsewhere(self, stage: Stage, holder: Holder | None) -> None:
        """Another sweep on this store runs the stage."""
        self._change("elsewhere", stage, f"on {holder.host} by process {holder.pid}" if holder else "")
        self._elsewhere.add(stage)

    def given_back(self, stage: Stage, inputs: Sequence[Stage], number: int) -> None:
        """The stage's inputs are damaged in the store: `number` stages wait until they are made again."""
        names = ", ".join(parent.name for parent in inputs)
        self._change("again", stage, f"{number} stages wait until its input is made again: {names}")

    def swept(self, number: int) -> None:
        """`number` leases and work directories of killed sweeps were removed."""
        if number:
            self._print(f"Removed {number} leftovers of killed sweeps from the store (leases, work directories).")

    def tick(self) -> None:
        """Time has passed: show it, on a terminal every time, otherwise every ten seconds."""
        if self._live:
            self._live.update(self._table(), refresh=True)
        elif self.clock() - self._status_at >= STATUS_SECONDS and self._started:
            self._status_at = self.clock()
            self._print(self.status_line())

    def end(self) -> None:
        """Nothing more will happen."""
        if self._live:
            self._live.stop()
            self._live = None
        self._print(self.status_line())

    def interrupted(self, remaining: int) -> None:
        """The user stopped it."""
        self._print(
            f"Stopped with {remaining} stages to go. What is done is stored, and training goes on from its last"
            " checkpoint: run the same command again to continue."
        )

    def status_line(self) -> str:
        """done / running / blocked / failed, ETA."""
        counts = self._counts
        waiting = len(self._left) - len(self._started) - len(self._elsewhere)
        parts = [f"{counts['done']} done", f"{len(self._started)} running"]
        if self._elsewhere:
            parts.append(f"{len(self._elsewhere)} elsewhere")
        parts += [f"{counts['blocked']} blocked", f"{counts['failed']} failed", f"{waiting} waiting"]
        return " / ".join(parts) + (f", {self._eta()}" if self._left else "")

    def _eta(self) -> str:
        now = self.clock()
        started = dict(self._started)  # copies, since a live page asks from another thread
        elapsed = {stage: now - start for stage, start in started.items()}
        left = [*self._left, *self.later]
        return f"ETA {spoken(seconds_to_go(self._calibration, left, elapsed, self._slots))}"

    def _settle(self, how: str, event: str, stage: Stage, detail: str) -> None:
        """The stage is over."""
        self._change(event, stage, detail)
        self._elsewhere.discard(stage)
        self._left.pop(stage, None)
        self._counts[how] += 1
        self._kinds.setdefault(stage.kind, Counter())[how] += 1

    def _change(self, event: str, stage: Stage, detail: str = "") -> None:
        """The stage no longer runs here, or starts only now."""
        self._started.pop(stage, None)
        self._print(f"{event:<9} {stage.name}  {detail}".rstrip())

    def _print(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)

    def _table(self) -> Group:
        now = self.clock()
        kinds = Table("kind", "done", "failed", "blocked", "of", box=None, pad_edge=False)
        for kind, counts in self._kinds.items():
            kinds.add_row(kind, *(str(counts[column]) for column in ("done", "failed", "blocked", "all")))
        running = Table("running", "for", box=None, pad_edge=False)
        for stage, start in self._started.items():
            running.add_row(stage.name, spoken(now - start))
        return Group(kinds, running, Text(self.status_line()))


def format_failures(failed: Iterable[tuple[Stage, Mapping[str, Any]]], cells: Mapping[str, Sequence[str]]) -> list[str]:
    """One list of what failed: stage, the cells that lack it, root error, log. cells: by the stage's digest.

    What could not be written to the store is in the list itself.
    """
    lines = []
    for stage, failure in failed:
        lines.append(f"{stage.name}: {failure['error']}")
        names = cells.get(stage.digest, ())
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            lines.append(f"  cells: {'; '.join(names[:5])}{more}")
        lines.append(f"  log: {failure['log']}")
        lines.append(f"  traceback: {failure['traceback']}")
        lines += [f"    {line}" for line in failure.get("unwritten", "").splitlines()]
    return lines
