"""The rules of the house, read from the source: who may import whom, how large a module is, where print may stand."""

import ast
import re
import subprocess
import sys
from collections.abc import Mapping, Set
from functools import cache
from pathlib import Path

import pytest

from scaling.kinds import BUILT_IN

ROOT = Path(__file__).parent.parent
PACKAGES = ("scaling", "algorithms", "data", "analysis")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
HEAVY = {"jax", "jaxlib", "ray", "flax", "optax", "orbax", "datasets", "math_verify", "sympy"}
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "base"}
MAX_LINES = 500
EDGES = (
    ROOT / "scaling/engine/worker.py",  # where what a stage raises becomes the record of a failure
    ROOT / "scaling/engine/ray_session.py",  # Ray raises plain Exceptions when it cannot start
    ROOT / "data/answers/user_verifiers.py",  # in a process of its own: what a user's check raises becomes a reply
    ROOT / "analysis/page/parts.py",  # where what a part of a report raises becomes a line of it
    ROOT / "scaling/plugins.py",  # where what a user's module raises becomes a message
)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


def within(name: str, *wings: str) -> bool:
    """Whether a name is a wing (a package or module), or inside one."""
    return any(name == wing or name.startswith(f"{wing}.") for wing in wings)


def modules_of(*wings: str) -> list[str]:
    return [module for module in MODULES if within(module, *wings)]


ANALYSIS = modules_of("analysis")
PLANNING = modules_of(
    "scaling.config", "scaling.planning", "scaling.pricing", "scaling.stage", "scaling.serve",
    "scaling.engine.results_dir",
)  # fmt: skip
STAGES = sorted({str(kind.run).partition(":")[0] for kind in BUILT_IN.values()})


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(module: str, everywhere: bool = True) -> frozenset[str]:
    """What a module imports, dotted, `from a import b` as a.b where that is a module of the project.

    everywhere: also what functions import when they are called.
    """
    tree = tree_of(MODULES[module])
    lazy = set() if everywhere else {id(node) for node in _inside_functions(tree)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in lazy:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import; imports are absolute"
            found.update(
                name if (name := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            )
    return frozenset(found)


def _inside_functions(tree: ast.Module) -> list[ast.AST]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [node for function in functions for node in ast.walk(function)]


def loaded_with(module: str) -> dict[str, tuple[str, ...]]:
    """Everything that importing a module imports, project modules followed -> the chain that leads to it."""
    chains = {module: (module,)}
    frontier = [module]
    while frontier:
        current = frontier.pop()
        for name in imports_of(current, everywhere=False):
            if name not in chains:
                chains[name] = (*chains[current], name)
                if name in MODULES:
                    frontier.append(name)
    return chains


def top(name: str) -> str:
    return name.partition(".")[0]


def circles(graph: Mapping[str, Set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def file_graph() -> dict[str, set[str]]:
    return {module: {name for name in imports_of(module) if name in MODULES} - {module} for module in MODULES}


def folder_of(module: str) -> str:
    """The package that a module is in; a file directly in a wing of the top level counts as its own folder."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    return module if "." not in package else package


def folder_graph() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {folder_of(module): set() for module in MODULES}
    for module, names in file_graph().items():
        graph[folder_of(module)] |= {folder_of(name) for name in names} - {folder_of(module)}
    return graph


def test_circles_are_found_where_there_are_some():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"f", "a"}, "f": {"e"}}
    assert circles(graph) == [["b", "c"], ["e", "f"]]
    assert circles({**graph, "c": {"d"}, "f": {"a"}}) == []


def test_no_files_import_each_other_in_a_circle():
    assert circles(file_graph()) == []


def test_no_folders_import_each_other_in_a_circle():
    assert folder_of("scaling.stage") == "scaling.stage" and folder_of("data.tokens.steps") == "data.tokens"
    assert circles(folder_graph()) == []


def test_the_modules_of_the_house_are_where_they_should_be():
    assert len(ANALYSIS) > 30 and len(PLANNING) > 20 and len(STAGES) > 10
    assert set(STAGES) <= set(MODULES)


@pytest.mark.parametrize("module", [*PLANNING, *ANALYSIS])
def test_planning_and_analysis_reach_neither_jax_nor_ray(module):
    for name, chain in loaded_with(module).items():
        assert top(name) not in HEAVY, " -> ".join(chain)


@pytest.mark.parametrize("module", ANALYSIS)
def test_analysis_imports_neither_jax_nor_ray_inside_its_functions_either(module):
    assert not {top(name) for name in imports_of(module)} & HEAVY


def test_importing_planning_and_analysis_leaves_jax_and_ray_out_of_the_process():
    code = (
        f"import importlib, sys\nfor name in {[*PLANNING, *ANALYSIS]!r}:\n    importlib.import_module(name)\n"
        f"    heavy = {HEAVY!r} & set(sys.modules)\n    assert not heavy, (name, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", modules_of("data", "algorithms"))
def test_stages_know_nothing_of_the_engine_the_plan_or_the_analysis(module):
    for name in imports_of(module):
        assert not within(name, "scaling.engine", "scaling.planning", "scaling.pricing", "analysis", "ray"), (
            f"{module} imports {name}"
        )


@pytest.mark.parametrize("module", list(MODULES))
def test_nothing_imports_a_stage_of_data(module):
    for name in imports_of(module):
        assert name not in STAGES or not within(name, "data"), f"{module} imports the stage {name}; share what it needs"


@pytest.mark.parametrize("module", modules_of("data"))
def test_data_knows_no_algorithm(module):
    assert not any(within(name, "algorithms") for name in imports_of(module))


@pytest.mark.parametrize("module", list(MODULES))
def test_nothing_imports_the_command_lines(module):
    assert not {
        "scaling.sweep",
        "scaling.serve",
        "scaling.store",
        "scaling.show",
        "scaling.chat",
        "scaling.export",
        "scaling.compile",
    } & imports_of(module)


@pytest.mark.parametrize("module", modules_of("scaling.engine"))
def test_the_engine_imports_no_stage(module):
    assert not {top(name) for name in imports_of(module)} & {"data", "algorithms", "analysis"}


def test_only_the_table_of_kinds_names_stages():
    for module in modules_of("scaling"):
        texts = [node.value for node in ast.walk(tree_of(MODULES[module])) if isinstance(node, ast.Constant)]
        named = [text for text in texts if isinstance(text, str) and re.fullmatch(r"(data|algorithms)[\w.]*:\w+", text)]
        assert bool(named) == (module == "scaling.kinds"), f"{module} names {named}"


@pytest.mark.parametrize("module", modules_of("scaling.model", "scaling.pretrained", "scaling.training"))
def test_models_and_training_know_no_problems_algorithms_or_engine(module):
    for name in imports_of(module):
        assert not within(name, "data", "algorithms", "analysis", "ray", "scaling.engine"), f"{module} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_a_module_is_short_has_a_docstring_and_a_name_that_says_something(path):
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MAX_LINES, f"{path} has {lines} lines; look for the second idea in it"
    assert ast.get_docstring(tree_of(path)), f"{path} has no docstring"
    assert path.stem not in VAGUE_NAMES


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=module_of)
def test_an_init_file_holds_a_docstring_only(path):
    assert len(tree_of(path).body) == 1


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_print_stands_in_command_line_modules_only(path):
    calls = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    is_command_line = 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
    assert is_command_line or not calls, f"{path}:{calls[0].lineno} prints; log it, or return it"


def _raises_again(handler: ast.ExceptHandler) -> bool:
    """Whether it tidies up and lets the error go on."""
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_errors_are_not_swallowed(path):
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        where = f"{path}:{node.lineno}"
        assert node.type is not None, f"{where} has a bare except"
        names = {getattr(part, "id", "") for part in getattr(node.type, "elts", [node.type])}
        if names & {"Exception", "BaseException"}:
            assert path in EDGES or _raises_again(node), f"{where} catches everything; only the edges may"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_there_are_no_star_imports_and_no_defaults_that_change(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), f"{path}:{node.lineno}"
        if isinstance(node, ast.FunctionDef):
            for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
                assert not isinstance(default, ast.List | ast.Dict | ast.Set), f"{path}:{node.lineno} {node.name}"
