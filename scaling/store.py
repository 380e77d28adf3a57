"""Look after a store: `python -m scaling.store {list,size,verify,gc} results/store [sweeps/NAME.yaml ...]`.

In: a store's folder or bucket, or a sweep file that names one, and sweep files that use it. Out: lines for a reader,
and an exit status. What a command does is in scaling.engine.store; here it is read from the command line and shown.
"""

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from etils import epath
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from scaling.config.errors import ConfigError
from scaling.engine.artifact import PARTIAL, RECORD
from scaling.engine.results_dir import store_at
from scaling.engine.store import Store
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep
from scaling.plugins import add_imports, load_plugins

EXIT_DAMAGED, EXIT_USAGE = 1, 2


@dataclass(frozen=True)
class Kept:
    """An artifact, or the checkpoints of an unfinished stage, as a reader asks about it."""

    folder: epath.Path
    num_bytes: int
    written_at: float | None  # seconds since 1970; None for an artifact that is not whole
    sweeps: tuple[str, ...]  # those of the command line that need it

    @property
    def is_unfinished(self) -> bool:
        return str(self.folder.name).startswith(PARTIAL)

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all is well, 1 something is damaged, 2 wrong usage or no such store."""
    arguments = _parser().parse_args(argv)
    try:
        load_plugins(arguments.imports)
        status: int = arguments.command(_store(arguments.store), arguments)
        return status
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE


def verify(store: Store, arguments: argparse.Namespace) -> int:
    """Compare every file of every artifact with its record; print those that differ."""
    number = damaged = 0
    for folder, fault in store.verify(set_aside=arguments.quarantine):
        number += 1
        if fault is not None:
            damaged += 1
            print(f"{folder} {fault}")
    print(f"{number} artifacts, {damaged} damaged.")
    if damaged and not arguments.quarantine:
        print("--quarantine moves the damaged ones aside; the next run of a sweep makes what it needs of them again.")
    return EXIT_DAMAGED if damaged else 0


def list_artifacts(store: Store, arguments: argparse.Namespace) -> int:
    """Print a line for each artifact and unfinished stage: its size, when it was written, which sweeps need it."""
    for one in _kept(store, arguments):
        used = ", ".join(one.sweeps) or ("-" if arguments.sweeps else "")
        made = "not whole" if one.written_at is None else f"{datetime.fromtimestamp(one.written_at):%Y-%m-%d %H:%M}"
        print(f"{decimal(one.num_bytes):>9}  {made:16}  {one.name}  {used}".rstrip())
    return 0


def size(store: Store, arguments: argparse.Namespace) -> int:
    """Print what each kind of stage takes, what unfinished stages take, and what each of the sweeps needs."""
    kept = list(_kept(store, arguments))
    by_kind, by_sweep = defaultdict[str, list[Kept]](list), defaultdict[str, list[Kept]](list)
    for one in kept:
        by_kind["unfinished" if one.is_unfinished else one.folder.parent.name].append(one)
        for sweep in one.sweeps:
            by_sweep[sweep].append(one)
    table = Table("", "artifacts", "size", box=None)
    for name, ones in [*sorted(by_kind.items()), *by_sweep.items(), ("all", kept)]:
        table.add_row(name, str(len(ones)), decimal(sum(one.num_bytes for one in ones)))
    Console().print(table)
    return 0


def gc(store: Store, arguments: argparse.Namespace) -> int:
    """Print the artifacts and unfinished stages that none of the sweeps needs; with --delete, delete them.

    What is younger than --days is kept, since a sweep that is not named here may be making it; so are stages that run,
    and what is not whole, since that is for `verify`.
    """
    if not arguments.sweeps:
        raise ConfigError("gc keeps what sweeps need: name their files, such as gc results/store sweeps/*.yaml.")
    latest = time.time() - 86400 * arguments.days
    unused = [one for one in _kept(store, arguments) if not one.sweeps and (one.written_at or math.inf) < latest]
    for one in unused:
        print(f"{decimal(one.num_bytes):>9}  {one.name}")
        if arguments.delete and one.is_unfinished:
            store.discard(one.folder)
        elif arguments.delete:
            (one.folder / RECORD).unlink(missing_ok=True)  # first: an interruption leaves nothing that looks whole
            one.folder.rmtree()
    total = decimal(sum(one.num_bytes for one in unused))
    unfinished = sum(one.is_unfinished for one in unused)
    what = f"{len(unused) - unfinished} artifacts" + (
        f" and {unfinished} unfinished stage{'s' * (unfinished > 1)}" if unfinished else ""
    )
    if arguments.delete:
        print(f"{what} deleted, {total}.")
    else:
        print(f"{what}, {total}, are needed by no sweep named here. --delete deletes them.")
    return 0


def _kept(store: Store, arguments: argparse.Namespace) -> Iterator[Kept]:
    needed = _needed(store, arguments.sweeps)
    for folder, digest, record in store.every():
        if record is None:
            yield Kept(folder, 0, None, needed.get(digest, ()))
        else:
            num_bytes = sum(described["bytes"] for described in record["files"].values())
            yield Kept(folder, num_bytes, record["committed_at"], needed.get(digest, ()))
    for folder, digest in store.unfinished():
        num_bytes, written_at = store.extent(folder)
        yield Kept(folder, num_bytes, written_at, needed.get(digest, ()))


def _needed(store: Store, files: Sequence[Path]) -> Mapping[str, tuple[str, ...]]:
    """Digest -> names of the sweeps that need it, candidates of a selection included."""
    needed: dict[str, tuple[str, ...]] = {}
    for file in files:
        for stage in plan(load_sweep(file), store.numbers).stages:
            needed[stage.digest] = (*needed.get(stage.digest, ()), file.stem)
    return needed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scaling.store",
        description="Look after a store of artifacts.",
        epilog="docs/reliability.md says what a store promises.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("list", list_artifacts, "a line for each artifact, with the sweeps that need it"),
        ("size", size, "what each kind of stage, and each sweep, takes"),
        ("verify", verify, "compare all contents with the records; exit status 1 for a damage"),
        ("gc", gc, "what no sweep needs; deletes nothing without --delete"),
    ):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(command=run)
        command.add_argument("store", help="its folder or bucket, or a sweep file (*.yaml) whose store it is")
        add_imports(command)
        if name == "verify":
            command.add_argument("--quarantine", action="store_true", help="move damaged artifacts to STORE/quarantine")
        else:
            command.add_argument("sweeps", nargs="*", type=Path, help="sweep files, such as sweeps/*.yaml")
        if name == "gc":
            command.add_argument("--delete", action="store_true", help="delete them")
            command.add_argument("--days", type=_days, default=1.0, help="keep what is younger (%(default)s)")
    return parser


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = math.nan
    if not days >= 0:  # nan compares with nothing
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days, 0 or more")
    return days


def _store(named: str) -> Store:
    store = store_at(load_sweep(Path(named)).store if named.endswith((".yaml", ".yml")) else named)
    if not store.root.exists():
        raise ConfigError(f"{store.root} does not exist; name the folder of a store, such as results/store.")
    return store


if __name__ == "__main__":
    sys.exit(main())
