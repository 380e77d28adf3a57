"""The documentation's site: its navigation has every page, its pages have every module, and no warning is given."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SITE_PACKAGES = ("sphinx", "furo", "myst_parser", "sphinxcontrib.mermaid")


def load(name: str):
    """A module of docs/sphinx/, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"sphinx/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


navigation, module_pages = load("navigation"), load("module_pages")


def listed() -> list[Path]:
    """The files that docs/index.md puts into the navigation."""
    sections = navigation.sections((DOCS / "index.md").read_text(encoding="utf-8"))
    return [(DOCS / f"{page}.md").resolve() for entries in sections.values() for _, page in entries]


def test_every_page_of_docs_is_in_the_navigation_once():
    pages = {path.resolve() for path in DOCS.glob("*.md")} - {(DOCS / "index.md").resolve()}
    missing = sorted(path.name for path in pages - set(listed()))
    assert not missing, f"docs/index.md does not list {missing}; add a line such as `- [Title](page.md): what it is`"
    assert len(set(listed())) == len(listed())


def test_every_page_in_the_navigation_exists():
    for path in listed():
        assert path.is_file(), f"docs/index.md lists {path}"


def test_the_navigation_is_read_from_headings_and_the_links_that_open_a_line():
    text = "# Title\n\n- [Not yet](a.md)\n\n## One\n\n- [B](b.md): or [c](c.md)\n- [D](../d/README.md)\n\n## Two\n\nno"
    assert navigation.sections(text) == {"One": [("B", "b"), ("D", "../d/README")], "Two": []}


def test_every_module_of_the_four_packages_has_its_heading_on_the_page_of_its_package():
    pages = module_pages.module_pages(ROOT)
    for package in module_pages.PACKAGES:
        for path in (ROOT / package).rglob("[a-z]*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            page = pages[name.rpartition(".")[0]]
            assert f"\n## {name}\n" in page


@pytest.fixture
def shown(tmp_path) -> str:
    """The page of a package that cannot be imported."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/__init__.py").write_text('"""Makes data."""\n')
    (tmp_path / "data/pairs.py").write_text(
        '"""Pairs, of <kind>.\n\nIn: rollouts.\nOut: pairs.\n"""\nimport not_there\nLIMIT = 3  # of rows\n_HIDDEN = 4\n'
        "@dataclass(frozen=True)\nclass Pair:\n"
        '    """Two completions."""\n\n    chosen: str  # reward 1\n\n    @property\n    def length(self) -> int:\n'
        '        """In tokens."""\n        return 1\n\n    def _private(self): ...\n'
        "def make(\n    rows: int,  # how many\n) -> Pair:\n    return Pair()\ndef _hidden(): ...\n"
    )
    return module_pages.module_pages(tmp_path)["data"]


def test_a_page_shows_signatures_fields_and_constants_with_their_comments(shown):
    assert "```python\nLIMIT = 3  # of rows\n```" in shown
    assert "### Pair\n\n```python\n@dataclass(frozen=True)\nclass Pair:\n    chosen: str  # reward 1\n```" in shown
    assert "#### Pair.length\n\n```python\n@property\ndef length(self) -> int:\n```\n\nIn tokens." in shown
    assert "### make\n\n```python\ndef make(\n    rows: int,  # how many\n) -> Pair:\n```" in shown


def test_a_page_shows_docstrings_as_they_are_and_nothing_private(shown):
    assert "## data.pairs\n\nPairs, of &lt;kind>.\n\nIn: rollouts.\\\nOut: pairs." in shown
    assert "_hidden" not in shown and "_HIDDEN" not in shown and "_private" not in shown


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    absent = [name for name in SITE_PACKAGES if importlib.util.find_spec(name.partition(".")[0]) is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} not installed; make docs builds the site in an environment of its own")
    command = ["-m", "sphinx", "--fail-on-warning", "--quiet", "-c", "docs/sphinx", "-d", tmp_path / "read"]
    done = subprocess.run([sys.executable, *command, ".", tmp_path / "site"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in ("index", "search", "docs/index", "docs/sweeps", "docs/modules/scaling", "results/README"):
        assert (tmp_path / f"site/{page}.html").is_file(), page
