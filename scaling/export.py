"""Write a trained policy for others to load: `python -m scaling.export sweeps/NAME.yaml --algorithm rft ... --out DIR`.

In: a sweep file or a policy's folder, and which run. Out: DIR, a Hugging Face checkpoint in float32 with its tokenizer.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import scaling.origins  # noqa: F401  (first, since it says why the others cannot be imported)
from scaling.api import PolicyError, load_policy
from scaling.config.errors import ConfigError
from scaling.planning.which_run import add_where, asked_where
from scaling.plugins import add_imports, load_plugins


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, 2 wrong usage, no such policy, or a folder that is there already."""
    parser = argparse.ArgumentParser(prog="python -m scaling.export", description="Write a policy as a checkpoint.")
    parser.add_argument("source", type=Path, help="a sweep, such as sweeps/quickstart.yaml, or a policy's folder")
    add_where(parser)
    add_imports(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="is made; must not exist")
    arguments = parser.parse_args(argv)
    try:
        load_plugins(arguments.imports)
        written = load_policy(arguments.source, asked_where(arguments), arguments.set).export(arguments.out)
    except OSError as error:
        print(f"error: --out {arguments.out}: {error.strerror}; name a folder that can be made.", file=sys.stderr)
        return 2
    except (ConfigError, PolicyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Checkpoint: {written}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
