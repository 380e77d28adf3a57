"""A folder that a command writes into: it marks the folder as its own, and replaces only its own files there.

In: the folder, the command, the sweep, the files that the command reads and the names that it may write. Out: a
fresh folder to write in, whose files then take the place of those that the command wrote before. The mark is
`source.txt`: the sweep's path as seen from the folder, a digest of what the report was drawn from, and the files of
each command. A folder without it is used only while it is empty, and other files in a marked one stay.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from scaling.files import replace_text

MARK = "source.txt"
CURE = "Name another folder with --out DIR, or move its contents away."


class OutputError(ValueError):
    """A folder cannot be written into; the message says why and what to do."""


@dataclass(frozen=True)
class Mark:
    """The source of a folder's files, and the command that wrote each file."""

    sweep: str | None = None  # path of the sweep's file, relative to the folder if possible
    digest: str | None = None  # of its report's input
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # command -> paths below the folder

    def text(self) -> str:
        """The file's text; the same mark gives the same bytes."""
        named = {"sweep": self.sweep, "digest": self.digest}
        files = {command: list(self.files[command]) for command in sorted(self.files)}
        return yaml.safe_dump(
            {**{key: value for key, value in named.items() if value}, "files": files}, sort_keys=False
        )


@dataclass(frozen=True)
class Output:
    """Where a command writes. Nothing is touched before `claim` or `writing`."""

    folder: Path
    command: str  # such as analysis.fit
    names: tuple[str, ...]  # that it may write, as patterns such as figures/*.png
    sweep: Path | None = None  # results of other sweeps are not replaced
    inputs: tuple[Path, ...] = ()  # never replaced

    def check(self) -> None:
        """Raise OutputError if the command may not or cannot write into the folder; changes nothing."""
        folder = self.folder
        for path in self.inputs:
            if path.resolve().is_relative_to(folder.resolve()):
                raise OutputError(f"{folder} holds {path}, which is read here. Name another folder with --out DIR.")
        try:
            if folder.exists() and os.listdir(folder):
                self._check_owner(_read(folder))
            _probe(folder)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"{folder} cannot be written into: {reason}. Name another folder: --out DIR.") from error

    def claim(self) -> None:
        """Check, make the folder and mark it."""
        self.check()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / MARK).open("x", encoding="utf-8") as file:
                file.write(Mark(sweep=self._sweep_from_here()).text())
        except FileExistsError:
            self.check()  # another sweep may have claimed it meanwhile

    @contextmanager
    def writing(self, digest: str | None = None) -> Iterator[Path]:
        """A folder to write in. When the block ends without an error its files replace the command's earlier ones.

        digest: of a report's input; without one, the mark keeps its own.
        """
        self.claim()
        fresh = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.folder))
        try:
            yield fresh
            self._publish(fresh, digest)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _publish(self, fresh: Path, digest: str | None) -> None:
        names = sorted(path.relative_to(fresh).as_posix() for path in fresh.rglob("*") if not path.is_dir())
        before = _read(self.folder)
        own = before.files.get(self.command, ())
        for name in names:
            if name not in own and os.path.lexists(self.folder / name):
                raise OutputError(_foreign(self.folder / name, self.command))
        after = replace(before, digest=digest or before.digest, files={**before.files, self.command: tuple(names)})
        # Until all files are in place the mark names old and new ones, so a kill leaves no file without an owner.
        self._mark(replace(after, files={**after.files, self.command: tuple(sorted({*own, *names}))}))
        for name in names:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(fresh / name, self.folder / name)
        for name in set(own) - set(names):
            (self.folder / name).unlink(missing_ok=True)
            if name.count("/") and not os.listdir((self.folder / name).parent):
                (self.folder / name).parent.rmdir()
        self._mark(after)

    def _mark(self, mark: Mark) -> None:
        replace_text(self.folder / MARK, mark.text())

    def _check_owner(self, mark: Mark) -> None:
        folder = self.folder
        if mark.sweep is None and self.sweep is not None:
            theirs = " and ".join(sorted(mark.files)) or "another command"
            raise OutputError(f"{folder} holds results of {theirs}, not of a sweep. {CURE}")
        if mark.sweep is not None:
            other = folder / mark.sweep
            if self.sweep is None:
                raise OutputError(f"{folder} holds the results of the sweep {os.path.normpath(other)}. {CURE}")
            if other.resolve() != self.sweep.resolve():
                raise OutputError(
                    f"{folder} holds the results of another sweep, {os.path.normpath(other)}, not of {self.sweep}."
                    f" {CURE}"
                )
        own = mark.files.get(self.command, ())
        for path in sorted(path for pattern in self.names for path in folder.glob(pattern)):
            if path.relative_to(folder).as_posix() not in own:
                raise OutputError(_foreign(path, self.command))
        for part in {pattern.rpartition("/")[0] for pattern in self.names} - {""}:
            if os.path.lexists(folder / part) and (not (folder / part).is_dir() or (folder / part).is_symlink()):
                raise OutputError(_foreign(folder / part, self.command))

    def _sweep_from_here(self) -> str | None:
        if self.sweep is None:
            return None
        try:
            return Path(os.path.relpath(self.sweep.resolve(), self.folder.resolve())).as_posix()
        except ValueError:  # on another drive
            return self.sweep.resolve().as_posix()


def mark_of(folder: Path) -> Mark | None:
    """The mark of a folder; None without a readable one."""
    try:
        return _read(folder)
    except (OSError, OutputError):
        return None


def _read(folder: Path) -> Mark:
    path = folder / MARK
    if not path.is_file():
        raise OutputError(f"{folder} is not empty and has no {MARK}, so no command of this project made it. {CURE}")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        files = {str(command): tuple(map(str, names)) for command, names in found["files"].items()}
        return Mark(found.get("sweep"), found.get("digest"), files)
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, AttributeError) as error:
        raise OutputError(f"{path} was not written by this project, so {folder} is left alone. {CURE}") from error


def _probe(folder: Path) -> None:
    """Raise OSError if the folder cannot be made or written to."""
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    with tempfile.TemporaryFile(dir=place):
        pass


def _foreign(path: Path, command: str) -> str:
    return f"{path} was not written by {command}, which would replace it. {CURE}"
