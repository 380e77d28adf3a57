"""A report's tables for a paper: LaTeX with booktabs.

In: `TextTable`s of finished cells. Out: text; each table is a `tabular` of its own, with its note as a comment above.
"""

from collections.abc import Iterable

from analysis.page.rendering import TextTable

_SPECIAL = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def to_latex(tables: Iterable[tuple[str, TextTable]]) -> str:
    """The tables with their titles, one below the other."""
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
    return " & ".join(map(escaped, cells)) + r" \\"
