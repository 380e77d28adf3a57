"""Break sweeps in every way at random moments: `python -m benchmarks.faults --faults 200 --seed 0 [--inline]`.

Each trial starts the command on a toy sweep (benchmarks.fault_command), breaks something, and then gives the same
command at most twice more. Afterwards the store must hold what an unbroken run writes, byte for byte but for logs,
times and provenance. A violation is a wrong byte, a stage lost, run twice or in two processes at once, a hang, a
traceback of the driver, a process left behind, and a sweep that two repeats do not finish. `--inline` leaves Ray out:
such drivers are forked, and a trial takes seconds. A table by kind of fault is printed; the exit status is 1 if there
was a violation.
"""

import argparse
import contextlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fault_kinds import FAULTS, Fault, can_mount, mounted
from benchmarks.fault_trial import Driver, Trial, load, prepared
from scaling.engine.artifact import every_folder
from scaling.engine.store import Store

HANG_SECONDS = 120.0  # beyond five times what the unbroken run took
LOGGED = r"failed\.$|^During handling of|^The above exception|^Exception ignored in: .*_xla_gc_callback"
EXPECTED_STATUSES = (0, 1, 2, 3, 4, 130, 143)
VARYING = ("wall_seconds", "committed_at", "provenance", "files", "sha256")  # of a record


@dataclass(frozen=True)
class Result:
    """What became of a trial."""

    fault: str
    hit: str  # what was broken; empty when there was nothing
    statuses: tuple[int | None, ...]  # of the commands, in order
    violations: tuple[str, ...]


# Trials


def trial(fault: Fault, seed: str, reference: "Reference", *, inline: bool) -> Result:
    """Break one sweep, repeat its command, and look at what is there."""
    rng = random.Random(seed)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        one = prepared(folder, rng, inline=inline, names=tuple(reference.contents))
        if fault.small:
            stack.enter_context(mounted(["-t", "tmpfs", "-o", "size=1m", "tmpfs"], one.store))
        limit = HANG_SECONDS + 5 * reference.seconds
        one.start()
        stack.callback(_end, one)
        moment = reference.first_stage + rng.uniform(0, 0.9) * (reference.seconds - reference.first_stage)
        one.wait_for(lambda: False, 0 if fault.early else moment)
        with fault.apply(one) as hit:
            if fault.small:
                one.wait_for(lambda: False, rng.uniform(0, 2))
        violations = _finish(one, limit)
        for attempt in (1, 2):
            if attempt == 2 and fault.damages:
                _set_aside(one.store)
            if attempt == 1 or one.drivers[-1].status != 0 or fault.damages:
                one.start()
                violations += _finish(one, limit)
        if one.drivers[-1].status != 0:
            violations.append(f"two repeats do not finish it: {_tail(one.drivers[-1])}")
        violations += [f"traceback: {_tail(driver)}" for driver in one.drivers if _has_traceback(driver)]
        # Before its handlers are in place SIGTERM ends a driver in the system's way, which a shell calls 143 too.
        accepted = (*EXPECTED_STATUSES, -signal.SIGKILL, -signal.SIGTERM)
        violations += [f"exit status {driver.status}" for driver in one.drivers if driver.status not in accepted]
        violations += reference.differences(one.store)
        violations += _run_twice(folder / "journal", fault)
        return Result(fault.name, hit, tuple(driver.status for driver in one.drivers), tuple(violations))


@dataclass(frozen=True)
class Reference:
    """What an unbroken run writes and how long it takes."""

    contents: dict[str, object]
    seconds: float
    first_stage: float  # seconds until a stage begins

    def differences(self, store: Path) -> list[str]:
        """What another store holds that this one does not, and the other way round."""
        found = contents(store)
        lost = [f"lost: {name}" for name in sorted(self.contents.keys() - found.keys())]
        other = [f"not of the sweep: {name}" for name in sorted(found.keys() - self.contents.keys())]
        wrong = [name for name in sorted(found.keys() & self.contents.keys()) if found[name] != self.contents[name]]
        return [*lost, *other, *(f"wrong bytes: {name}" for name in wrong)]


def unbroken(*, inline: bool) -> Reference:
    """Run the sweep in peace."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        one = prepared(Path(folder), random.Random(0), inline=inline)
        start = time.monotonic()
        driver = one.start()
        one.wait_for((Path(folder) / "journal").exists, 600)
        first_stage = time.monotonic() - start
        while driver.runs():
            time.sleep(0.02)
        seconds = time.monotonic() - start
        if driver.status != 0:
            raise RuntimeError(f"the unbroken run ends with {driver.status}: {driver.errors.read_text()}")
        return Reference(contents(one.store), seconds, first_stage)


def contents(store: Path) -> dict[str, object]:
    """Artifact -> its files but for logs, and its record but for times, provenance and the like."""
    found: dict[str, object] = {}
    for folder, _ in every_folder(Store(store).root):
        path = Path(folder)
        files = {
            os.fspath(file.relative_to(path)): file.read_bytes()
            for file in sorted(path.rglob("*"))
            if file.is_file() and file.name not in ("log.txt", "record.json")
        }
        try:
            record = json.loads((path / "record.json").read_bytes())
        except (OSError, ValueError):
            record = {}
        kept = {name: value for name, value in record.items() if name not in VARYING}
        found[f"{path.parent.name}/{path.name}"] = (files, kept, sorted(record.get("files", ())))
    return found


def campaign(number: int, seed: int, *, inline: bool, kinds: Sequence[str] = ()) -> list[Result]:
    """So many faults, of each kind in turn, in an order of the seed's."""
    if inline:
        load()
    reference = unbroken(inline=inline)
    possible = [fault for fault in FAULTS if not (inline and fault.with_ray) and (not fault.mounts or can_mount())]
    chosen = [fault for fault in possible if not kinds or any(kind in fault.name for kind in kinds)]
    random.Random(seed).shuffle(chosen)
    results = []
    for index in range(number):
        fault = chosen[index % len(chosen)]
        result = trial(fault, f"{seed} {index}", reference, inline=inline)
        results.append(result)
        said = "; ".join(result.violations) or "ok"
        print(f"{index + 1:4} {fault.name} [{result.hit or 'nothing hit'}] {result.statuses}: {said}", flush=True)
    return results


def table(results: Sequence[Result]) -> str:
    """The results by kind, in Markdown."""
    lines = ["| fault | tried | exit statuses of the broken run | violations |", "|---|---|---|---|"]
    for name in dict.fromkeys(result.fault for result in results):
        own = [result for result in results if result.fault == name]
        statuses = Counter(result.statuses[0] for result in own)
        shown = ", ".join(f"{status} ({count})" for status, count in statuses.most_common())
        hit = sum(bool(result.hit) for result in own)
        tried = str(len(own)) if hit == len(own) else f"{len(own)}, {len(own) - hit} hit nothing"
        lines.append(f"| {name} | {tried} | {shown} | {sum(bool(result.violations) for result in own)} |")
    return "\n".join(lines)


def main() -> int:
    """Run a campaign and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__.partition("\n")[0])
    parser.add_argument("--faults", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inline", action="store_true", help="without Ray: stages run in the driver, which is forked")
    parser.add_argument("--kind", action="append", default=[], help="only kinds of fault whose name holds this")
    arguments = parser.parse_args()
    results = campaign(arguments.faults, arguments.seed, inline=arguments.inline, kinds=arguments.kind)
    broken = [result for result in results if result.violations]
    print(f"\n{table(results)}\n\n{len(results)} faults, {len(broken)} with a violation.")
    return 1 if broken else 0


def _finish(one: Trial, limit: float) -> list[str]:
    """Wait until all drivers have ended; what is wrong with that."""
    violations = []
    deadline = time.monotonic() + limit
    looked_at = 0.0
    for driver in one.drivers:
        while driver.runs() and time.monotonic() < deadline:
            if time.monotonic() - looked_at > 1 and not one.inline:
                driver.descendants()
                looked_at = time.monotonic()
            time.sleep(0.02)
        if driver.runs():
            violations.append(f"hangs: {_tail(driver)}")
            driver.signal(signal.SIGKILL)
        violations += [f"left running: {name}" for name in driver.left()]
    return violations


def _end(one: Trial) -> None:
    for driver in one.drivers:
        driver.signal(signal.SIGKILL)
        while driver.runs():
            time.sleep(0.02)
        driver.left()


def _set_aside(store: Path) -> None:
    for _ in Store(store).verify(set_aside=True):
        pass


def _run_twice(journal: Path, fault: Fault) -> list[str]:
    lines = Counter(tuple(line.split()) for line in journal.read_text().splitlines())
    at_once = [f"runs in two processes at once: {digest}" for (event, digest), _ in lines.items() if event == "twice"]
    if fault.reruns:
        return at_once
    again = [digest for (event, digest), count in lines.items() if event == "end" and count > 1]
    return [*at_once, *(f"run twice: {digest}" for digest in again)]


def _has_traceback(driver: Driver) -> bool:
    """Of the driver itself: not the one logged of a failed stage, nor what jax's garbage collection ignores."""
    before = ""
    for line in driver.errors.read_text(errors="replace").splitlines():
        if line.startswith("Traceback (most recent call last)") and not re.search(LOGGED, before):
            return True
        before = line.strip() or before
    return False


def _tail(driver: Driver) -> str:
    said = driver.output.read_text(errors="replace") + driver.errors.read_text(errors="replace")
    return " / ".join(said.splitlines()[-12:])


if __name__ == "__main__":
    sys.exit(main())
