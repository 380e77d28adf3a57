"""A report's sections as Markdown and as one self-contained HTML page, and its tables as CSV.

In: `Section`s of finished text, tables of finished cells and figures on disk. Out: the text of the files. Nothing is
computed here.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES = Path(str(resources.files("analysis") / "templates"))


@dataclass(frozen=True)
class Picture:
    """A figure on disk with its caption."""

    file: str  # relative to the report
    caption: str
    base64: str  # the PNG

    @property
    def title(self) -> str:
        """The caption's first sentence, as alternative text."""
        return re.split(r"[.;:] ", self.caption)[0]


@dataclass(frozen=True)
class TextTable:
    """A table of finished cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with its content, in this order."""

    title: str
    paragraphs: tuple[str, ...] = ()
    bullets: tuple[str, ...] = ()
    figures: tuple[Picture, ...] = ()
    tables: tuple[TextTable, ...] = ()


def picture(directory: Path, file: str, caption: str) -> Picture:
    """Read a PNG below the report's directory."""
    return Picture(file, caption, base64.b64encode((directory / file).read_bytes()).decode())


def write_report(directory: Path, title: str, sections: Sequence[Section]) -> None:
    """report.md and report.html."""
    (directory / "report.md").write_text(to_markdown(title, sections), encoding="utf-8")
    (directory / "report.html").write_text(to_html(title, sections), encoding="utf-8")


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Numbers to ten digits."""
    table.to_csv(path, index=False, float_format="%.10g", lineterminator="\n")


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """The report as Markdown; figures are links."""
    text = _environment(autoescape=False).get_template("report.md.j2").render(title=title, sections=sections)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def to_html(title: str, sections: Sequence[Section]) -> str:
    """The report as one HTML file; figures are embedded."""
    return _environment(autoescape=True).get_template("report.html.j2").render(title=title, sections=sections)


def _environment(autoescape: bool) -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
