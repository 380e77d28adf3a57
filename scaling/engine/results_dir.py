"""Where a sweep's artifacts and results are: the store it names, the shipped artifacts, its results directory."""

import hashlib
import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path

from scaling.config.sweep import Sweep
from scaling.engine.filelock import FileLock
from scaling.engine.store import Store
from scaling.planning.explain import ConfigError
from scaling.repository import REPOSITORY

LONGEST_NAME = 120  # file systems allow 255 bytes
SHIPPED = REPOSITORY / "results" / "shipped"  # artifacts that come with the repository, used where the digest agrees


def open_store(sweep: Sweep) -> Store:
    """The sweep's store; a relative path is below the repository, wherever the command runs."""
    return store_at(sweep.store)


def store_at(named: str) -> Store:
    """The store in a folder or bucket; ConfigError where it cannot be read."""
    root = named if "://" in named else REPOSITORY / Path(named).expanduser()
    try:
        store = Store(root, SHIPPED)
    except KeyError as error:  # etils.epath knows no such scheme
        raise ConfigError(f"store is {named}; name a folder, or a bucket with gs:// or s3://.") from error
    if store.is_local:
        _check_folder(Path(store.root))
    else:
        _check_access(store)
    return store


def make_writable(store: Store) -> None:
    """Make the folder of a local store; fail in one line where stages could not write to it or lock files in it."""
    if not store.is_local:
        return
    root = Path(store.root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        writable = os.access(root, os.W_OK | os.X_OK)
        reason = "this user may not write there"
    except OSError as error:
        writable, reason = False, error.strerror or str(error)
    if not writable:
        raise ConfigError(f"store is {root}, which cannot be written to: {reason}. Name another: --set store=DIR.")
    probe = root / f".lock-{uuid.uuid4().hex[:8]}"
    try:
        FileLock.acquire(probe, 0.0).release()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"store is {root}, where files cannot be locked: {error.strerror or error}. Name another: --set store=DIR."
        ) from error


def _check_folder(root: Path) -> None:
    try:
        os.listdir(root)
    except FileNotFoundError:  # the first stage makes it
        return
    except (OSError, ValueError) as error:  # ValueError: a name that no folder can have
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"store is {root}, which cannot be read: {reason}. Name a folder: --set store=DIR."
        ) from error


def _check_access(store: Store) -> None:
    """Fail early, and in one line, where a bucket cannot be read."""
    failures: tuple[type[Exception], ...] = (OSError, ImportError)
    if str(store.root).startswith("s3://"):
        try:
            from botocore.exceptions import BotoCoreError
        except ImportError as error:
            raise ConfigError(f"store is {store.root}; s3:// needs the extra: pip install -e '.[s3]'.") from error
        failures = (*failures, BotoCoreError)
    try:
        store.root.exists()
    except failures as error:
        raise ConfigError(
            f"store is {store.root}, which cannot be read: {' '.join(str(error).split()).rstrip('.')}. Check the name,"
            " your credentials and that the extra for this kind of store is installed (docs/sweeps.md)."
        ) from error


def results_dir(file: Path, overrides: Sequence[str]) -> Path:
    """`results/NAME`, and a name of its own for a sweep with overrides, so that it replaces no other's results."""
    suffix = "".join(f"+{re.sub(r'[^A-Za-z0-9_.=,-]+', '-', override)}" for override in sorted(overrides))
    name = f"{file.stem}{suffix}"
    if len(name) > LONGEST_NAME:  # many overrides, or long paths in them
        digest = hashlib.sha256("\n".join(sorted(overrides)).encode()).hexdigest()[:10]
        name = f"{name[: LONGEST_NAME - 11]}+{digest}"
    return REPOSITORY / "results" / name
