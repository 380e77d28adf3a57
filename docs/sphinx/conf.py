"""Settings of the documentation's site, built by `make docs`; warnings are errors.

The root of the repository is the source folder, so that links between docs/, results/ and the files beside the README
work on the site as they do in the repository. A linked file that is not a page, such as a module, is copied to it.
"""

import configparser
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))

from module_pages import module_pages  # noqa: E402
from navigation import sections, toctree  # noqa: E402

_metadata = configparser.ConfigParser()
_metadata.read(ROOT / "setup.cfg", encoding="utf-8")

project = "Scaling laws for synthetic-data post-training"
version = release = _metadata["metadata"]["version"]
copyright = f"the contributors, {_metadata['metadata']['license']}"
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "results/*.md", "results/shipped/*/report.md", "[A-Z]*.md"]
exclude_patterns = [".*", "site", "tests", "results/store"]
MODULES = "docs/modules"  # where the pages of modules are written

myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sourcelink = False
html_use_index = False  # pages of modules are Markdown, which has no entries for an index


def write_module_pages(app: Sphinx, config: Config) -> None:
    """Write what has changed only, so that a second build is quick."""
    folder = ROOT / MODULES
    folder.mkdir(exist_ok=True)
    pages = {folder / f"{name}.md": text for name, text in module_pages(ROOT).items()}
    for path in set(folder.glob("*.md")) - set(pages):
        path.unlink()
    for path, text in pages.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def add_navigation(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == root_doc:
        for heading, entries in sections(source[0]).items():
            source[0] += toctree(heading, [f"{title} <{page}>" for title, page in entries])
        source[0] += toctree("Modules", [f"/{MODULES}/{name}" for name in module_pages(ROOT)])
    elif docname == "results/README":
        source[0] += toctree("", ["shipped/*/report"])


def write_entrance(app: Sphinx, exception: Exception | None) -> None:
    """Let the site open at its root, although its first page is in docs/."""
    if exception is None:
        forward = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">'
        page = f"<!doctype html><title>{project}</title>{forward}\n"
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.connect("config-inited", write_module_pages)
    app.connect("source-read", add_navigation)
    app.connect("build-finished", write_entrance)
