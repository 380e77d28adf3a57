"""Write the site's pages of modules: one page a package, read from the sources.

In: the repository. Out: {package: Markdown}. Nothing is imported, so the pages need neither jax nor ray. A field's
meaning stands in the comment beside it, and so a class is shown as it is written, down to its first method.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("scaling", "algorithms", "data", "analysis")
_MOST_LINES = 8  # of a constant; a longer one is a table that is better read in its file
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def module_pages(root: Path) -> dict[str, str]:
    """Dotted name -> page, of every package below the four at the top and of these themselves."""
    folders = sorted(path.parent for package in PACKAGES for path in (root / package).rglob("__init__.py"))
    return {_dotted(folder, root): _package_page(folder, root) for folder in folders}


def _dotted(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts)


def _package_page(folder: Path, root: Path) -> str:
    front = "---\ntocdepth: 3\n---\n"
    about = _prose(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    modules = [_module(path, root) for path in sorted(folder.glob("[a-z]*.py"))]
    return "\n\n".join([f"{front}\n# {_dotted(folder, root)}", about, *modules]) + "\n"


def _module(path: Path, root: Path) -> str:
    source = path.read_text(encoding="utf-8")
    tree, lines = ast.parse(source), source.splitlines()
    parts = [f"## {_dotted(path, root)}", _prose(tree)]
    constants = [text for node in tree.body if (text := _constant(node, lines))]
    parts += [_code(constants)] if constants else []
    parts += [text for node in _public(tree.body) for text in _definition(node, lines, node.name, "###")]
    return "\n\n".join(filter(None, parts))


def _public(body: list[ast.stmt]) -> Iterator[_Definition]:
    return (node for node in body if isinstance(node, _Definition) and not node.name.startswith("_"))


def _constant(node: ast.stmt, lines: list[str]) -> str:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    public = any(isinstance(target, ast.Name) and not target.id.startswith("_") for target in targets)
    return "\n".join(lines[node.lineno - 1 : node.end_lineno]) if public and _length(node) <= _MOST_LINES else ""


def _length(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _definition(node: _Definition, lines: list[str], name: str, heading: str) -> Iterator[str]:
    """The heading, the signature or the fields, the docstring; then a class's public methods."""
    yield f"{heading} {name}"
    yield _code(_shown(node, lines))
    yield _prose(node)
    if isinstance(node, ast.ClassDef):
        for method in _public(node.body):
            yield from _definition(method, lines, f"{name}.{method.name}", "####")


def _shown(node: _Definition, lines: list[str]) -> list[str]:
    """The lines of the signature; of a class its fields as well. The docstring is left out."""
    first, *rest = node.body
    is_documented = ast.get_docstring(node, clean=False) is not None
    shown = lines[_start(node) - 1 : max(_start(first) - 1, node.lineno)]
    if isinstance(node, ast.ClassDef):
        fields_start = (first.end_lineno or first.lineno) if is_documented else _start(first) - 1
        methods = [_start(item) - 1 for item in (first, *rest) if isinstance(item, _Definition)]
        shown += lines[fields_start : min(methods, default=node.end_lineno)]
    indent = min((len(line) - len(line.lstrip()) for line in shown if line.strip()), default=0)
    return [line[indent:] for line in shown]


def _start(node: ast.stmt) -> int:
    return min((decorator.lineno for decorator in getattr(node, "decorator_list", [])), default=node.lineno)


def _code(lines: list[str]) -> str:
    return "```python\n" + re.sub(r"\n{2,}", "\n", "\n".join(lines)).strip("\n") + "\n```"


def _prose(node: ast.Module | _Definition) -> str:
    """The docstring as Markdown: a line `name: meaning` begins a line of its own, and `<` is no tag."""
    text = ast.get_docstring(node) or ""
    text = re.sub(r"(?<=\S)\n(?=[\w`.]+(?:, [\w`.]+)*: )", "\\\\\n", text)
    return re.sub(r"(`[^`]*`)|<", lambda found: found[1] or "&lt;", text)
