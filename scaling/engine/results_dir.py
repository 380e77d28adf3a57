"""The locations of a sweep's artifacts and results: its store, with the shipped artifacts, and its results folder.

Paths are relative to the current folder; reading a sweep file has already rewritten its paths accordingly.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path

from scaling.config.errors import ConfigError
from scaling.config.sweep import Sweep
from scaling.engine.store import Store
from scaling.filelock import FileLock
from scaling.paths import SHIPPED, from_current

LONGEST_NAME = 120  # file systems allow 255 bytes


def open_store(sweep: Sweep) -> Store:
    """The sweep's store; a relative path is below the current folder."""
    return store_at(sweep.store)


def store_at(named: str) -> Store:
    """The store in a folder or bucket; ConfigError if it cannot be read."""
    root = named if "://" in named else from_current(named)
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
    """Make the folder of a local store; fail in one line if stages could not write to it or lock files in it."""
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
    """Fail early, and in one line, if a bucket cannot be read."""
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


def results_dir(file: Path, overrides: Sequence[str], sweep: Sweep, out: Path | None = None) -> Path:
    """The folder of a sweep's results: `--out`, or what its key `results` names, or `results/NAME`.

    Without `--out`, a sweep with overrides gets a separate folder beside that, so it replaces no other results.
    """
    if out is not None:
        return from_current(out)
    named = from_current(sweep.results or Path("results") / file.stem)
    applied = sorted(override for override in overrides if override.partition("=")[0] != "results")
    name = named.name + "".join(f"+{re.sub(r'[^A-Za-z0-9_.=,-]+', '-', override)}" for override in applied)
    if len(name) > LONGEST_NAME:  # many overrides, or long paths in them
        digest = hashlib.sha256("\n".join(applied).encode()).hexdigest()[:10]
        name = f"{name[: LONGEST_NAME - 11]}+{digest}"
    return named.parent / name
