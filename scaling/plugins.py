"""Modules from outside of this repository, which register algorithms, stage kinds, problem families and more.

In: paths of Python files (`--import FILE`, `imports:` in a sweep file). Out: `Plugin`s. They are imported here, so that
what they register is known from now on; a worker imports them again from the texts that it is sent. The digest of a
plug-in, with the local modules that it imports, is part of the identity of what it computes.
"""

import argparse
import ast
import importlib
import importlib.util
import sys
import tempfile
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.config.errors import ConfigError
from scaling.registry import registering
from scaling.sources import closure, imports, sources_digest

# What a module may import inside of functions only, so that planning and reports do without.
HEAVY = ("jax", "jaxlib", "flax", "optax", "orbax", "ray")


@dataclass(frozen=True)
class Plugin:
    """A user's module, with all that a process elsewhere needs to import it."""

    name: str  # of the module
    digest: str  # of its syntax tree and those of the local modules that it imports
    files: Mapping[str, str]  # path below its folder -> text


def add_imports(parser: argparse.ArgumentParser) -> None:
    """The option --import of every command that plans or reads."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a Python file of yours that registers algorithms, problem families and the like (docs/plugins.md)",
    )


def load_plugins(paths: Iterable[Path]) -> None:
    """Import each file, once. Raises ConfigError for a file that cannot be imported, with the line at fault."""
    for path in paths:
        _load(path.expanduser().resolve())


def import_plugins(plugins: Sequence[Plugin]) -> None:
    """Import in a worker what the driver has loaded, from the texts that it sent."""
    for plugin in plugins:
        if plugin.name in sys.modules:  # forked, or in the driver's own process
            continue
        folder = Path(tempfile.mkdtemp(prefix=f"scaling-plugin-{plugin.name}-"))
        for name, text in plugin.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        _import(plugin.name, folder, plugin.digest)


def loaded_plugins() -> tuple[Plugin, ...]:
    """What this process has loaded, for the workers."""
    return tuple(_loaded.values())


_loaded: dict[Path, Plugin] = {}


def _load(path: Path) -> None:
    if path in _loaded:
        return
    name = path.stem
    if not path.is_file() or path.suffix != ".py" or not name.isidentifier():
        raise ConfigError(f"--import {path}: expected a Python file that exists, with a name such as my_algorithm.py.")
    spec = importlib.util.find_spec(name)
    if spec is not None and (
        spec.origin is None or Path(spec.origin).resolve() != path
    ):  # it may be in the current folder
        raise ConfigError(
            f"--import {path}: the name {name!r} belongs to another module; rename the file, such as my_{name}.py."
        )
    try:
        files = closure(name, path.parent)
        heavy = [(file, module) for file in files.values() for module in _imported_at_once(file) if module in HEAVY]
        digest = sources_digest(name, path.parent)
    except SyntaxError as error:
        raise ConfigError(f"--import {path}: {error.filename}, line {error.lineno}: {error.msg}.") from error
    if heavy or digest is None:
        file, module = heavy[0]
        raise ConfigError(
            f"--import {path}: {file.name} imports {module} when it is loaded, which planning and reports do without;"
            f" import {module} inside of the functions that use it."
        )
    before = _heavy_modules()
    try:
        _import(name, path.parent, digest)
    except Exception as error:  # the user's own code, at the edge where it meets ours
        sys.modules.pop(name, None)
        line = next((frame.lineno for frame in reversed(traceback.extract_tb(error.__traceback__))
                     if frame.filename == str(path)), "?")  # fmt: skip
        raise ConfigError(f"--import {path}: line {line}: {type(error).__name__}: {error}") from error
    if brought := sorted(_heavy_modules() - before):
        raise ConfigError(
            f"--import {path}: it imports a module of this project that imports {brought[0]}, which planning and"
            " reports do without; move the imports of algorithms, scaling.model and scaling.training into the functions"
            " that use them."
        )
    texts = {str(file.relative_to(path.parent)): file.read_text(encoding="utf-8") for file in files.values()}
    _loaded[path] = Plugin(name, digest, texts)


def _import(name: str, folder: Path, digest: str) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last: nothing in the folder takes the place of another module
    importlib.invalidate_caches()
    with registering(digest):
        importlib.import_module(name)


def _heavy_modules() -> set[str]:
    return {name for name in HEAVY if name in sys.modules}


def _imported_at_once(file: Path) -> set[str]:
    """Top-level names of the modules that importing a file imports."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lazy = {id(inner) for node in functions for inner in ast.walk(node)}
    at_once = imports(node for node in ast.walk(tree) if id(node) not in lazy)
    return {name.partition(".")[0] for level, name, _ in at_once if not level}
