"""A report's sections as Markdown and as one self-contained HTML page, and its tables as CSV and LaTeX.

In: `Section`s of finished text, tables of finished cells and figures on disk. Out: the text of the files. Nothing is
computed here.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES = Path(str(resources.files("analysis") / "templates"))
_SPECIAL = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


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
class Line:
    """A line of a sample; the mark, such as "wrong" or "pit", is its style."""

    text: str
    beside: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Sample:
    """Text as a policy wrote it, line by line."""

    title: str
    lines: tuple[Line, ...]
    mark: str = ""  # "right" or "wrong"


@dataclass(frozen=True)
class Group:
    """Samples side by side under what they have in common."""

    title: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Section:
    """A heading with its content, in this order."""

    title: str
    paragraphs: tuple[str, ...] = ()
    bullets: tuple[str, ...] = ()
    figures: tuple[Picture, ...] = ()
    tables: tuple[TextTable, ...] = ()
    groups: tuple[Group, ...] = ()
    is_detail: bool = False  # folded in a page

    @property
    def anchor(self) -> str:
        """The section's name in a link."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


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


def as_table(kind: type[Any], records: Iterable[Any]) -> pd.DataFrame:
    """A row for each record of a dataclass, a column for each of its fields, even without any record."""
    return pd.DataFrame([vars(item) for item in records], columns=[field.name for field in fields(kind)])


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """The report as Markdown; figures are links."""
    environment = _environment(autoescape=False)
    environment.filters |= {"cell": _markdown_cell, "line": _one_line, "fence": _fence}
    text = environment.get_template("report.md.j2").render(title=title, sections=sections)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _markdown_cell(text: str) -> str:
    """A problem of several lines, or with a bar in it, would end the table's row."""
    return text.strip().replace("|", r"\|").replace("\n", "<br>")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _fence(group: Group) -> str:
    """More backticks than a policy writes in a row."""
    written = (run for sample in group.samples for line in sample.lines for run in re.findall("`+", line.text))
    return "`" * max(3, 1 + max(map(len, written), default=0))


def to_html(title: str, sections: Sequence[Section]) -> str:
    """The report as one HTML file; figures are embedded."""
    contents_at = next((place for place, section in enumerate(sections, 1) if section.is_detail), 0)
    template = _environment(autoescape=True).get_template("report.html.j2")
    return template.render(title=title, sections=sections, contents_at=contents_at)


def _environment(autoescape: bool) -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def to_latex(tables: Iterable[tuple[str, TextTable]]) -> str:
    """The tables with their titles: a booktabs `tabular` each, with its note as a comment above."""
    return "\n".join(_tabular(title, table) for title, table in tables)


def escaped(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _tabular(title: str, table: TextTable) -> str:
    lines = [f"% {title}", *(f"% {line}" for line in table.note.splitlines())]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule", _row(table.columns), r"\midrule"]
    lines += [*map(_row, table.rows), r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return " & ".join(escaped(_one_line(cell)) for cell in cells) + r" \\"  # an empty line may not stand in a cell
