"""The code that computes a stage: a digest of a module and of all local modules that it imports.

In: the name of a module, and the folder below which it and its local imports lie. Out: a digest of their syntax trees.
Comments, docstrings and layout do not count; imports inside functions are followed as well. A user's module is
identified in the same way as the project's own: `sources_digest("my_algorithm", Path("/home/me/study"))`.

Parsing the project takes half a second, so results are cached in `~/.cache/scaling`, by the contents of files.
"""

import ast
import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from scaling.files import replace_text

CACHE = Path("~/.cache/scaling")

Import = tuple[int, str, tuple[str, ...]]  # leading dots, module, and the names taken from it


@dataclass(frozen=True)
class Source:
    """A file of Python."""

    digest: str  # of its syntax tree
    imports: tuple[Import, ...]


@cache
def sources_digest(module: str, search: Path, packages: tuple[str, ...] | None = None) -> str | None:
    """The digest of a module with its imports below `search`; None if there is no such module.

    packages: top-level names that count as local; None for all that lie in `search`. A file is read once per
    process, which has loaded the code of that time.
    """
    num_kept = len(_kept())
    files = closure(module, search, packages)
    if len(_kept()) > num_kept:
        _keep(_kept())
    if not files:
        return None
    return _sha256("\n".join(f"{name} {_source(path).digest}" for name, path in sorted(files.items())))


def closure(module: str, search: Path, packages: tuple[str, ...] | None = None) -> Mapping[str, Path]:
    """The module and everything that it imports, directly or not, from below `search`: name -> file."""
    found: dict[str, Path] = {}
    frontier = [module]
    while frontier:
        name = frontier.pop()
        path = _file_of(name, search, packages)
        if name in found or path is None:
            continue
        found[name] = path
        frontier.append(name.rpartition(".")[0])  # importing a module imports its packages
        frontier.extend(_imported(name, path))
    return found


def parse(text: str, file: str = "<unknown>") -> Source:
    """The digest and the imports of a file's text; raises SyntaxError, which names the file."""
    tree = ast.parse(text, file)
    return Source(_sha256(_canonical(tree)), tuple(imports(ast.walk(tree))))


def imports(nodes: Iterable[ast.AST]) -> Iterator[Import]:
    """What these nodes of a tree import."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", tuple(alias.name for alias in node.names)


@cache
def _file_of(module: str, search: Path, packages: tuple[str, ...] | None) -> Path | None:
    top = module.partition(".")[0]
    if not top or (packages is not None and top not in packages):
        return None
    path = search.joinpath(*module.split("."))
    for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _imported(module: str, path: Path) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for level, name, taken in _source(path).imports:
        if level:
            parts = package.split(".")
            name = ".".join([*parts[: len(parts) - level + 1], *([name] if name else [])])
        yield name
        yield from (f"{name}.{each}" for each in taken)  # which may be modules too


def _canonical(value: object) -> str:
    """A tree as text, equal in all versions of Python: no positions, nothing empty, no strings that stand alone."""
    if isinstance(value, ast.JoinedStr):  # without the empty end that Python 3.12 gives some
        return f"JoinedStr({','.join(_canonical(part) for part in value.values if not _is_empty_string(part))})"
    if isinstance(value, ast.AST):
        fields = ((name, getattr(value, name, None)) for name in value._fields if name != "type_comment")
        parts = [f"{name}={_canonical(field)}" for name, field in fields if field is not None and field != []]
        return f"{type(value).__name__}({','.join(parts)})"
    if isinstance(value, list):
        return f"[{','.join(_canonical(item) for item in value if not _is_docstring(item))}]"
    return f"{type(value).__name__}:{value!r}"


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_empty_string(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == ""


@cache
def _source(path: Path) -> Source:
    contents = path.read_bytes()
    key = hashlib.sha256(contents).hexdigest()
    kept = _kept()
    if key not in kept:
        kept[key] = parse(contents.decode("utf-8"), str(path))
    return kept[key]


@cache
def _kept() -> dict[str, Source]:
    """The parse results of this and earlier processes: sha256 of a file -> what is in it."""
    try:
        rows = json.loads(_cache_file().read_bytes())
        return {
            key: Source(digest, tuple((level, name, tuple(taken)) for level, name, taken in found))
            for key, (digest, found) in rows.items()
        }
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError):  # no home; nothing kept; a torn file
        return {}


def _keep(kept: Mapping[str, Source]) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # a home that cannot be written to costs the time of parsing
        file = _cache_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_text(file, json.dumps({key: (source.digest, source.imports) for key, source in kept.items()}))


def _cache_file() -> Path:
    """One for each version of this file, which defines the digests."""
    return CACHE.expanduser() / f"sources-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]}.json"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
