"""An exclusive lock on a file, released when its process ends: one worker per work directory.

In: a path. Out: a `FileLock`, held until it is released or its process ends, for any reason.

Not the package `filelock`: only its fourth major version notices that a lock's folder was renamed, it raises
FileNotFoundError then, and it does not handle file systems that refuse flock with ENOTSUP or ENOLCK.
"""

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path

_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
_POLL_SECONDS = 0.05


class NoLocksError(OSError):
    """The file system has no locks."""


class FileLock:
    """A lock that is held; made by `acquire`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    @classmethod
    def acquire(cls, path: Path, timeout_seconds: float) -> "FileLock":
        """Lock a file, creating it with its folder; TimeoutError if another process keeps it too long."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the folder was just renamed
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                held = False
                try:
                    held = _locked(descriptor, path) and _is_same_file(descriptor, path)
                finally:
                    if not held:
                        os.close(descriptor)
                if held:
                    return cls(descriptor)
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{path} is locked by another process for {timeout_seconds:.0f} s; expected that of a killed sweep"
                    " to end by itself. Look for a worker left over on this machine and end it."
                )
            time.sleep(_POLL_SECONDS)

    def is_at(self, path: Path) -> bool:
        """Whether the locked file is still the one at this path: not renamed, nor created again by another process."""
        return _is_same_file(self._descriptor, path)

    def release(self) -> None:
        """Unlock."""
        os.close(self._descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock now; creates nothing."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not _locked(descriptor, path)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        raise NoLocksError(
            error.errno,
            f"{path} cannot be locked: {os.strerror(error.errno or 0)}. Stages of two sweeps are kept apart by flock:"
            " mount the file system with it (Lustre: -o flock; NFS: without nolock), or use a folder on a local disk",
        ) from error
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
