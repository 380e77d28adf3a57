"""The rules of the house, read from the source: who may import whom, how large a module is, where print may stand."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("scaling", "algorithms", "data", "analysis")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NO_JAX = (
    "scaling.config.sweep",
    "scaling.planning.analysis_check",
    "scaling.planning.explain",
    "scaling.config.sampling",
    "scaling.config.memory",
    "scaling.config.teacher",
    "scaling.pricing.teacher_bill",
    "scaling.config.policy",
    "scaling.training.memory_settings",
    "scaling.config.training",
    "scaling.config.problems",
    "scaling.config.text_problems",
    "scaling.planning.sampler_check",
    "scaling.planning.set_check",
    "scaling.planning.set_stages",
    "scaling.config.section",
    "scaling.config.server",
    "scaling.planning.grid",
    "scaling.planning.sweep_file",
    "scaling.planning.recipes",
    "scaling.serve",
    "scaling.planning.chain",
    "scaling.planning.critical_stages",
    "scaling.planning.sampled_stages",
    "scaling.serve",
    "scaling.stage",
    "scaling.planning.plan",
    "scaling.pricing.costs",
    "scaling.pricing.estimate",
    "scaling.model.memory_need",
    "scaling.pretrained.shapes",
    "scaling.model.layout",
    "scaling.config.resources",
    "scaling.pricing.stage_memory",
    "scaling.paths",
    "scaling.origins",
    "scaling.planning.written_paths",
    "scaling.engine.output",
    "scaling.engine.results_dir",
    "scaling.pricing.room_check",
    *(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "analysis").rglob("[a-z]*.py"))
    ),
)
HEAVY = {"jax", "jaxlib", "ray", "flax", "optax", "orbax", "datasets", "math_verify", "sympy"}
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "base"}
MAX_LINES = 500
EDGE = ROOT / "scaling/engine/worker.py"  # where whatever a stage raises becomes the record of a failure


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in SOURCES}


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


def test_the_modules_of_the_house_are_where_they_should_be():
    assert set(NO_JAX) <= set(MODULES)
    assert len(NO_JAX) > 9, "analysis/ holds no module"


@pytest.mark.parametrize("module", NO_JAX)
def test_planning_and_analysis_reach_neither_jax_nor_ray(module):
    for name, chain in loaded_with(module).items():
        assert top(name) not in HEAVY, " -> ".join(chain)


@pytest.mark.parametrize("module", [name for name in NO_JAX if name.startswith("analysis")])
def test_analysis_imports_neither_jax_nor_ray_inside_its_functions_either(module):
    assert not {top(name) for name in imports_of(module)} & HEAVY


def test_importing_planning_and_analysis_leaves_jax_and_ray_out_of_the_process():
    code = (
        f"import importlib, sys\nfor name in {NO_JAX!r}:\n    importlib.import_module(name)\n"
        f"    heavy = {HEAVY!r} & set(sys.modules)\n    assert not heavy, (name, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", [name for name in MODULES if top(name) in ("data", "algorithms")])
def test_stages_know_nothing_of_the_engine_the_grid_or_the_analysis(module):
    for name in imports_of(module):
        assert not name.startswith(("scaling.engine", "analysis", "ray")), f"{module} imports {name}"
        assert name not in (
            "scaling.planning.grid",
            "scaling.planning.plan",
            "scaling.planning.sweep_file",
            "scaling.pricing.costs",
        )
        assert name not in ("scaling.planning.chain", "scaling.planning.recipes", "scaling.planning.critical_stages")


@pytest.mark.parametrize("module", list(MODULES))
def test_nothing_imports_the_command_line(module):
    assert "scaling.sweep" not in imports_of(module)


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("scaling.engine")])
def test_the_engine_imports_no_stage(module):
    assert not {top(name) for name in imports_of(module)} & {"data", "algorithms", "analysis"}


def test_only_the_workers_table_names_stages():
    for module in (name for name in MODULES if name.startswith("scaling.engine")):
        texts = [node.value for node in ast.walk(tree_of(MODULES[module])) if isinstance(node, ast.Constant)]
        named = [text for text in texts if isinstance(text, str) and text.startswith(("data.", "algorithms."))]
        assert bool(named) == (module == "scaling.engine.worker"), f"{module} names {named}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(("scaling.model", "scaling.training"))])
def test_models_and_training_know_no_problems_algorithms_or_engine(module):
    for name in imports_of(module):
        assert top(name) not in ("data", "algorithms", "analysis", "ray"), f"{module} imports {name}"
        assert not name.startswith("scaling.engine")


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
    allowed = module_of(path) == "scaling.sweep" or (module_of(path).startswith("analysis.") and is_command_line)
    assert allowed or not calls, f"{path}:{calls[0].lineno} prints; log it, or return it"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_errors_are_not_swallowed(path):
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        where = f"{path}:{node.lineno}"
        assert node.type is not None, f"{where} has a bare except"
        names = {getattr(part, "id", "") for part in getattr(node.type, "elts", [node.type])}
        if names & {"Exception", "BaseException"}:
            assert path == EDGE, f"{where} catches everything; only the worker's edge may"


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_there_are_no_star_imports_and_no_defaults_that_change(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), f"{path}:{node.lineno}"
        if isinstance(node, ast.FunctionDef):
            for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
                assert not isinstance(default, ast.List | ast.Dict | ast.Set), f"{path}:{node.lineno} {node.name}"
