"""An exclusive lock on a file that ends with its process: keeps two workers out of one work directory.

In: a path. Out: a `FileLock`, held until `release` or the end of the process, however that comes.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path


class FileLock:
    """A lock that is held; made by `acquire`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, path: Path, timeout_seconds: float) -> "FileLock":
        """Lock a file, which is created with its folder; TimeoutError when another process keeps it too long."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the folder was renamed away this moment
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                if _locked(descriptor) and _is_same_file(descriptor, path):
                    return cls(descriptor)
                os.close(descriptor)
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{path} is locked by another process for {timeout_seconds:.0f} s; expected that of a killed sweep"
                    " to end by itself. Look for a worker left over on this machine and end it."
                )
            time.sleep(0.05)

    def release(self) -> None:
        """Unlock."""
        os.close(self._descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
