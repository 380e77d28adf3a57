"""The processes of a trial of benchmarks.faults: drivers of a toy sweep in a folder of their own.

In: a folder, and whether stages run in the driver itself. Out: drivers to signal and to wait for, and what they leave.
"""

import contextlib
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from scaling.engine.artifact import every_folder
from scaling.engine.store import Store

STALE_SECONDS = 3.0  # after which leases of a silent driver are free
LEFT_SECONDS = 120.0  # for processes to end after their driver; Ray's own look for it every few seconds of theirs
WAIT_SECONDS = 120.0  # for something to break
SWEEP = {
    "question": "Does it survive?",
    "problems": {
        "family": "modular_sum",
        "modulus": 11,
        "operands": 3,
        "zipf_exponent": 0.0,
        "num_validation": 8,
        "num_test": 16,
    },
    "policy": {"size": "xxs", "base": "random"},
    "rollouts": {"samples_per_problem": 4},
    "evaluation": {"samples_per_problem": 2, "pass_at": [2]},
    "grid": {"algorithm": ["sft", "rft", "dpo"], "data_size": [8]},
    "seeds": [0],
    "store": "store",
    "results": "results",
}


class Driver:
    """A process with the command of a sweep, in a process group of its own."""

    def __init__(self, folder: Path, number: int, *, inline: bool, seconds: float) -> None:
        self.output, self.errors = (folder / f"{number}.{name}" for name in ("out", "err"))
        self.status: int | None = None  # of its end; the negative signal that ended it
        self.family: dict[int, str] = {}
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become_driver(folder, self.output, self.errors, inline=inline, seconds=seconds)

    def runs(self) -> bool:
        """Whether it has not ended."""
        if self.status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is None

    def signal(self, number: int) -> None:
        """Send it a signal if it runs."""
        if self.runs():
            os.kill(self.pid, number)

    def descendants(self) -> dict[int, str]:
        """Its processes now: id -> name. What was seen is kept for `left`."""
        found = family(self.pid) if self.runs() else {}
        self.family |= found
        return found

    def left(self) -> list[str]:
        """End what it has left behind after some seconds; the names."""
        deadline = time.monotonic() + LEFT_SECONDS
        while (left := [pid for pid in self.family if _runs(pid, self.family[pid])]) and time.monotonic() < deadline:
            time.sleep(0.2)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return [self.family[pid] for pid in left]


@dataclass
class Trial:
    """One sweep that is broken once."""

    folder: Path
    rng: random.Random
    inline: bool
    seconds: float  # a stage takes
    names: tuple[str, ...]  # of the artifacts that an unbroken run writes
    drivers: list[Driver] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def start(self) -> Driver:
        """Give the command."""
        driver = Driver(self.folder, len(self.drivers), inline=self.inline, seconds=self.seconds)
        self.drivers.append(driver)
        return driver

    def wait_for(self, condition: Callable[[], object], seconds: float = WAIT_SECONDS) -> object:
        """What the condition gives once it is true, or at last when the first driver has ended or the time is up."""
        deadline = time.monotonic() + seconds
        while not (found := condition()) and self.drivers[0].runs() and time.monotonic() < deadline:
            time.sleep(0.02)
        return found or condition()

    def artifacts(self) -> list[Path]:
        """Those that are committed now."""
        return [Path(folder) for folder, _ in every_folder(Store(self.store).root)]

    def _files(self, pattern: str) -> list[Path]:
        """The files of the store that match now; none while the sweep renames a folder under the search."""
        try:
            return sorted(path for path in self.store.glob(pattern) if path.is_file())
        except FileNotFoundError:
            return []

    def some(self, pattern: str) -> Path | None:
        """One of the files of the store that match, as soon as there is one."""
        found = self.wait_for(lambda: self._files(pattern))
        return self.rng.choice(found) if found else None

    def kill_first(self) -> None:
        """The first driver is gone, and its workers too."""
        self.drivers[0].signal(signal.SIGKILL)
        while self.drivers[0].runs():
            time.sleep(0.02)


def prepared(folder: Path, rng: random.Random, *, inline: bool, names: tuple[str, ...] = ()) -> Trial:
    """A trial in a folder, with its sweep file."""
    (folder / "faults.yaml").write_text(yaml.safe_dump(SWEEP))
    return Trial(folder, rng, inline, 0.15 if inline else 0.5, names)


def load() -> None:
    """What every forked driver would import."""
    import jax  # noqa: F401
    import orbax.checkpoint  # noqa: F401

    import benchmarks.fault_command  # noqa: F401
    import scaling.training.checkpoint  # noqa: F401


def _become_driver(folder: Path, output: Path, errors: Path, *, inline: bool, seconds: float) -> None:
    """In a forked process; does not return."""
    status = 70
    try:
        os.setpgrp()
        os.chdir(folder)
        for number, path in ((1, output), (2, errors)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        os.environ |= {
            "FAULTS_JOURNAL": os.fspath(folder / "journal"),
            "FAULTS_SECONDS": str(seconds),
            "FAULTS_STALE_SECONDS": str(STALE_SECONDS),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join([os.fspath(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        }
        if inline:
            from benchmarks import fault_command

            sys.argv = ["scaling.sweep", "faults.yaml", "--inline"]
            status = fault_command.command()
        else:
            os.execv(sys.executable, [sys.executable, "-m", "benchmarks.fault_command", "faults.yaml"])
    except BaseException:  # the edge of the process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def family(pid: int) -> dict[int, str]:
    """The descendants of a process: id -> name."""
    children: dict[int, list[tuple[int, str]]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
            children.setdefault(int(rest.split()[1]), []).append((int(stat.parent.name), name))
    found: dict[int, str] = {}
    frontier = [pid]
    while frontier:
        for child, name in children.get(frontier.pop(), []):
            found[child] = name
            frontier.append(child)
    return found


def _runs(pid: int, name: str) -> bool:
    try:
        called, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return called[:5] == name[:5] and rest.split()[0] != "Z"  # Ray renames its workers
