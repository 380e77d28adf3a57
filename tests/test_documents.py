"""Documents say what the code does: every key, paper, command, path and shipped sweep that they name is real."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import pytest
from pygments.lexers import get_lexer_by_name

from scaling.config.algorithms import algorithm_names, algorithm_of
from scaling.config.memory import Memory
from scaling.config.on_policy import GroupPg, OnPolicy
from scaling.config.policy import Lora
from scaling.config.resources import Hardware, Hosts, Mesh, Meshes, Timeouts
from scaling.config.section import Section
from scaling.config.sweep import Figures, Resources, cell_schema, sweep_schema
from scaling.config.teacher import NamedTeacher
from scaling.config.text_problems import Solvable
from scaling.config.training import Optimizer, Preference
from scaling.planning.plan import plan
from scaling.planning.sweep_file import SWEEP_KEYS, load_sweep

ROOT = Path(__file__).parent.parent
PACKAGES = ("scaling", "algorithms", "data", "analysis")
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
ARXIV = re.compile(r"arXiv[\s:]+(\d{4}\.\d{4,5})")
CITATION = re.compile(r"\b([A-Z][a-z]+(?: et al\.,?| and [A-Z][a-z]+,?)? \(?(?:19|20)\d\d)\b")


# docs/sweeps.md


def written_type(schema: Mapping) -> str:
    """How docs/sweeps.md writes the type that a JSON schema states."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        *others, last = (f"`{value}`" for value in schema["enum"])
        return f"{', '.join(others)} or {last}"
    if "anyOf" in schema:
        return " or ".join(map(written_type, schema["anyOf"]))
    if "$ref" in schema or "oneOf" in schema:
        return "section"
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return kind + _written_bounds(schema)
    if kind == "array" and "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])}: {written_type(schema['prefixItems'][0])}"
    if kind == "array":
        return f"list of {written_type(schema['items'])}" if schema["items"] else "list of values"
    if kind == "object":
        values = schema["additionalProperties"]
        return "mapping" if values is True else f"mapping to {written_type(values)}"
    return {"string": "text", "boolean": "true or false", "null": "null"}[kind]


def _written_bounds(schema: Mapping) -> str:
    low, above, high = (schema.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if above is not None:
        return f", above {above:g}" + (f" and up to {high:g}" if high is not None else "")
    if low is not None:
        return f", {low:g} to {high:g}" if high is not None else f", {low:g} or more"
    return ""


def written_default(schema: Mapping, required: bool) -> str:
    """How docs/sweeps.md writes a default."""
    if required:
        return "required"
    if written_type(schema) == "section":
        return "see below"
    return f"`{_written(schema['default'])}`"


def _written(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(item)}" for key, item in value.items()) + "}"
    return str(value)


def sections() -> Iterator[tuple[str, type[Section]]]:
    """(heading in docs/sweeps.md, model) of every section of a sweep file."""
    for name, field in cell_schema().model_fields.items():
        if name == "problems":
            for family in field.annotation.__args__:
                yield f"`problems`, family `{family.model_fields['family'].default}`", family
        for part in (field.annotation, *get_args(field.annotation)):  # or null
            if name != "problems" and isinstance(part, type) and issubclass(part, Section):
                yield f"`{name}`", part
    yield "`policy.lora`", Lora
    yield "`teacher`, each of `teachers`", NamedTeacher
    yield "`problems.solvable`", Solvable
    yield from (
        ("`select`", get_args(sweep_schema().model_fields["select"].annotation)[0]),
        ("`analysis`", sweep_schema().model_fields["analysis"].annotation),
        ("`figure`", Figures),
        ("`resources`", Resources),
        ("`memory`", Memory),
    )
    yield from (("`resources.mesh`", Meshes), ("`resources.mesh.train`, `resources.mesh.rollouts`", Mesh))
    yield from (("`resources.hosts`", Hosts), ("`resources.hardware`", Hardware))
    yield "`resources.timeout_minutes`", Timeouts


def expected_rows(model: type[Section]) -> dict[str, tuple[str, str]]:
    """Key -> (type, default) of a model's fields, as docs/sweeps.md must write them."""
    schema = model.model_json_schema()
    required = schema.get("required", ())
    return {
        key: (written_type(field), written_default(field, key in required))
        for key, field in schema["properties"].items()
    }


def tables(document: Path) -> dict[str, list[list[str]]]:
    """Heading -> the rows of the table below it, cells stripped, without header and rule."""
    found: dict[str, list[list[str]]] = {}
    heading = ""
    for line in document.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        elif line.startswith("|"):
            found.setdefault(heading, []).append([cell.strip() for cell in line.strip("|").split("|")])
    return {heading: rows[2:] for heading, rows in found.items()}


@pytest.mark.parametrize(("heading", "model"), list(sections()), ids=lambda value: str(value))
def test_docs_sweeps_gives_every_key_of_a_section_with_type_default_and_meaning(heading, model):
    rows = tables(ROOT / "docs/sweeps.md").get(heading, [])
    documented = {row[0].strip("`"): (row[1], row[2]) for row in rows}
    assert documented == expected_rows(model)
    for row in rows:
        assert len(row) == 5, f"{heading}: expected key, type, default, unit, meaning in {row}"
        assert row[3] and row[4], f"{heading}.{row[0]} has no unit (write - for none) or no meaning"


def test_docs_sweeps_gives_every_key_at_the_top_of_a_file():
    rows = tables(ROOT / "docs/sweeps.md")["Keys at the top of the file"]
    expected = expected_rows(sweep_schema()) | expected_rows(cell_schema())
    del expected["fixed"]  # the loader's name for the cell's sections: no key of a file
    assert set(expected) == {*SWEEP_KEYS, *cell_schema().model_fields}
    expected["grid"] = ("mapping to list of values, or list of such mappings", "required")
    expected["select"] = ("section", "none")
    assert {row[0].strip("`"): (row[1], row[2]) for row in rows} == expected


def test_docs_sweeps_names_every_option_of_the_command_line():
    from scaling.sweep import _parser

    text = (ROOT / "docs/sweeps.md").read_text(encoding="utf-8")
    for action in _parser()._actions:
        for option in action.option_strings:
            assert option in ("-h", "--help") or f"`{option}" in text, option


def test_the_schema_of_a_problem_is_found_by_its_family():
    families = [heading for heading, _ in sections() if heading.startswith("`problems`")]
    tags = cell_schema().model_json_schema()["properties"]["problems"]["discriminator"]["mapping"]
    assert len(families) == len(tags) >= 2


# docs/learners.md


def test_docs_learners_has_every_algorithm_and_every_setting_of_its_losses():
    text = (ROOT / "docs/learners.md").read_text(encoding="utf-8")
    opening, *sections_ = text.split("\n## ")
    assert set(re.findall(r"^\| `(\w+)` \|", opening, re.MULTILINE)) == set(algorithm_names())
    for name in algorithm_names():
        assert any(f"`{name}`" in one or algorithm_of(name).label == one.partition("\n")[0] for one in sections_), name
    for settings, general, row in ((Preference, Optimizer, "| `loss: {}` |"), (GroupPg, OnPolicy, "| `{}` |")):
        for loss in get_args(settings.model_fields["loss"].annotation):
            assert row.format(loss) in text, f"{settings.__name__} has the loss {loss}"
        for field in settings.model_fields.keys() - general.model_fields.keys() - {"beta", "loss"}:
            assert f"`{field}" in text or f" {field} " in text, f"{settings.__name__}.{field}"


def test_every_section_of_docs_learners_has_a_source_that_docs_papers_has():
    papers = (ROOT / "docs/papers.md").read_text(encoding="utf-8")
    _, *sections_ = (ROOT / "docs/learners.md").read_text(encoding="utf-8").split("\n## ")
    for section in sections_:
        numbers = re.findall(r"arxiv\.org/abs/(\d{4}\.\d{5})", section)
        assert any(f"| {number} |" in papers for number in numbers), f"docs/learners.md: {section.splitlines()[0]}"


# docs/papers.md


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def is_defined(dotted: str) -> bool:
    """Whether `package.module.name` is a function, class or method of the project, or `package.module` a module."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length]).with_suffix(".py")
        if path.exists():
            node: ast.AST | None = ast.parse(path.read_text(encoding="utf-8"))
            for name in parts[length:]:
                body = [item for item in node.body if getattr(item, "name", None) == name]
                if not body:
                    return False
                node = body[0]
            return True
    return False


def test_every_row_of_docs_papers_names_functions_that_exist():
    rows = [row for table in tables(ROOT / "docs/papers.md").values() for row in table]
    assert rows
    for row in rows:
        named = re.findall(r"`([a-z_]+(?:\.\w+)+)`", row[2])
        assert named, f"docs/papers.md: no function in {row}"
        for dotted in named:
            assert is_defined(dotted), f"docs/papers.md names {dotted}, which does not exist"
        assert re.fullmatch(r"\d{4}\.\d{4,5}|-", row[1]), f"docs/papers.md: {row[1]!r} is no arXiv number"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_paper_that_the_code_cites_is_in_docs_papers(path):
    papers = (ROOT / "docs/papers.md").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
    for number in ARXIV.findall(text):
        assert number in papers, f"{path} cites arXiv {number}"
    for citation in CITATION.findall(text):
        words = re.sub(r"[(),]", "", citation)
        assert words in papers, f"{path} cites {words}"


def test_every_paper_has_one_row_and_its_own_arxiv_number():
    rows = [row for table in tables(ROOT / "docs/papers.md").values() for row in table]
    numbers = [row[1] for row in rows if row[1] != "-"]
    assert len(set(numbers)) == len(numbers)
    assert len({row[0] for row in rows}) == len(rows)


# sweeps/


def test_there_is_a_shipped_sweep():
    assert SWEEPS, "sweeps/ holds no .yaml file"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_a_shipped_sweep_loads_plans_and_opens_with_comments(path):
    sweep = load_sweep(path)
    planned = plan(sweep, lambda stage: None)
    assert planned.runs and planned.stages
    assert path.read_text(encoding="utf-8").startswith("# "), f"{path} does not say what it is for"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.name)
def test_blocks_of_code_are_in_languages_that_the_site_can_colour(page):
    for language in re.findall(r"^```([a-z]+)$", page.read_text(encoding="utf-8"), re.M):
        assert language == "mermaid" or get_lexer_by_name(language), f"{page.name}: {language}"
