"""Serve the exported policies of a sweep in turn: run this beside the sweep, on the machine with the accelerators.

    python -m scaling.serve results/exports -- vllm serve {folder} --served-model-name {name} --port 8000

In: the folder of exports (`sampler.folder`), and a command that contains {folder} and {name}. A stage that samples a
policy touches `<name>.wanted` every few seconds for as long as it does; the command is started for the policy that has
waited longest, and stopped when only another one is wanted. Out: nothing but log lines. A mark counts
when it changes, so the clocks of the two machines need not agree.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scaling.config.sampling import WANTED_SUFFIX

logger = logging.getLogger(__name__)

IDLE_SECONDS = 30.0  # a mark unchanged for this long belongs to a stage that has ended
POLL_SECONDS = 2.0
STOP_SECONDS = 60.0  # for a server to end before it is killed


class Marks:
    """Which policies are wanted, the one that has waited longest first."""

    def __init__(self, folder: Path, idle_seconds: float) -> None:
        self._folder, self._idle_seconds = folder, idle_seconds
        self._changed = self._times()  # left from before: not wanted until they change
        self._wanted: dict[str, float] = {}  # name -> when its mark was last seen to change

    def wanted(self) -> list[str]:
        """Names of exports."""
        now, times = time.monotonic(), self._times()
        for name, changed in times.items():
            if self._changed.get(name) != changed:
                self._wanted[name] = now
        self._changed = times
        self._wanted = {name: seen for name, seen in self._wanted.items() if now - seen < self._idle_seconds}
        return list(self._wanted)

    def _times(self) -> dict[str, int]:
        marks = sorted(self._folder.glob(f"*{WANTED_SUFFIX}"))
        return {path.name.removesuffix(WANTED_SUFFIX): path.stat().st_mtime_ns for path in marks}


def serve(
    folder: Path,
    command: Sequence[str],
    poll_seconds: float = POLL_SECONDS,
    idle_seconds: float = IDLE_SECONDS,
    going_on: Callable[[], bool] = lambda: True,
) -> int:
    """Serve the wanted policies, one at a time; returns the exit code of a server that ends by itself, or 0."""
    marks = Marks(folder, idle_seconds)
    server: subprocess.Popen[bytes] | None = None
    served = ""
    try:
        while going_on():
            wanted = marks.wanted()
            if server is not None and server.poll() is not None:
                logger.error("The server of %s ended by itself with exit code %d.", served, server.returncode)
                return server.returncode or 1
            if server is not None and wanted and served not in wanted:
                logger.info("%s is wanted no more.", served)
                _stop(server)
                server = None
            if server is None and wanted:
                served = wanted[0]
                filled = [word.replace("{folder}", str(folder / served)).replace("{name}", served) for word in command]
                logger.info("%s is wanted: %s", served, " ".join(filled))
                server = subprocess.Popen(filled, start_new_session=True)
            time.sleep(poll_seconds)
        return 0
    finally:
        if server is not None:
            _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End a server with all the processes that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(STOP_SECONDS)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            logger.warning("The server has not ended after %.0f seconds; it is killed.", STOP_SECONDS)


def main() -> int:
    """Run until interrupted, or until a server ends by itself."""
    parser = argparse.ArgumentParser(prog="python -m scaling.serve", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the sweep exports its policies: sampler.folder")
    parser.add_argument("command", nargs="+", help="after --; {folder} and {name} stand for the policy's")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    try:
        return serve(arguments.folder.absolute(), arguments.command)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
