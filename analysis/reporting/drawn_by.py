"""The digest of the code that draws a report, so that a report drawn by other code is known to be stale.

In: the modules of `analysis`, as installed. Out: a digest of the syntax trees of those that `analysis.report`
imports, and of the page's templates. Comments, docstrings and layout do not enter it, nor does the Python version.
"""

import ast
import hashlib
from functools import cache
from importlib import resources
from pathlib import Path

ROOT = Path(str(resources.files("analysis"))).parent


@cache
def code_digest(root: Path = ROOT, start: str = "analysis.report") -> str:
    """Sixteen hex digits over the import closure of a module within its package."""
    package = start.partition(".")[0]
    digest, seen, waiting = hashlib.sha256(), set(), [start]
    texts = {}
    while waiting:
        module = waiting.pop()
        path = root.joinpath(*module.split(".")).with_suffix(".py")
        if module in seen or not path.is_file():
            continue
        seen.add(module)
        tree = ast.parse(path.read_bytes())
        waiting += [name for name in _imports(tree) if name.startswith(f"{package}.")]
        texts[module] = _text(tree)
    for module in sorted(texts):
        digest.update(f"{module}\n{texts[module]}\n".encode())
    for template in sorted((root / package / "templates").glob("*.j2")):
        digest.update(template.name.encode() + template.read_bytes())
    return digest.hexdigest()[:16]


def _imports(tree: ast.Module) -> list[str]:
    """The dotted names that may be modules."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def _text(node: object) -> str:
    """A tree in one line. Fields that are empty are left out: later Python versions have more of them."""
    if isinstance(node, list):
        return f"[{','.join(map(_text, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = []
    for name, value in ast.iter_fields(node):
        if name == "body" and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            value = value[1:] if ast.get_docstring(node, clean=False) is not None else value
        if value is not None and value != []:
            parts.append(f"{name}={_text(value)}")
    return f"{type(node).__name__}({','.join(parts)})"
