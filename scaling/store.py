"""Look after a store: `python -m scaling.store verify results/store`.

In: a store's folder or bucket, or a sweep file that names one. Out: lines for a reader, and an exit status. What a
command does is in scaling.engine.store; here it is read from the command line and shown.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from scaling.config.errors import ConfigError
from scaling.engine.results_dir import open_store, store_at
from scaling.engine.store import Store
from scaling.planning.sweep_file import load_sweep

EXIT_DAMAGED, EXIT_USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 all is well, 1 something is damaged, 2 wrong usage or no such store."""
    arguments = _parser().parse_args(argv)
    try:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scaling.store",
        description="Look after a store of artifacts.",
        epilog="docs/reliability.md says what a store promises.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("verify", help="compare all contents with the records; exit status 1 for a damage")
    command.set_defaults(command=verify)
    command.add_argument("store", help="its folder or bucket, or a sweep file (*.yaml) whose store it is")
    command.add_argument("--quarantine", action="store_true", help="move damaged artifacts to STORE/quarantine")
    return parser


def _store(named: str) -> Store:
    if named.endswith((".yaml", ".yml")):
        store = open_store(load_sweep(Path(named)))
    else:
        store = store_at(named)
    if not store.root.exists():
        raise ConfigError(f"{store.root} does not exist; name the folder of a store, such as results/store.")
    return store


if __name__ == "__main__":
    sys.exit(main())
