"""The digest of the code that draws a report: it changes with the code, and with nothing else."""

import shutil

import pytest
from planted_store import fill
from test_tables import GRID, write

from analysis import report
from scaling import sources
from scaling.engine.provenance import PROJECT


@pytest.fixture
def copy(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CACHE", tmp_path / "cache")
    shutil.copytree(PROJECT / "analysis", tmp_path / "analysis", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def digest_of(copy) -> str:
    """As a process that starts now has it."""
    for function in (sources._source, sources._file_of, sources.sources_digest):
        function.cache_clear()
    return report.code_digest.__wrapped__(copy)


def changed(copy, file: str, old: str, new: str) -> bool:
    """Whether the digest is another one after a change of the copy's file."""
    before, path = digest_of(copy), copy / "analysis" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return digest_of(copy) != before


def test_the_digest_depends_on_nothing_but_the_files(copy):
    assert digest_of(copy) == report.code_digest()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("multipliers/estimates.py", '"""', '"""Reworded: '),
        ("report.py", "import argparse\n", "import argparse  # reads the options\n\n"),
        ("report.py", '"""What the command line shows of a report."""', '"""Shown at the end."""'),
        ("planner/simulation.py", "import numpy as np", "import numpy as numbers"),  # draws no report
    ],
)
def test_comments_docstrings_and_other_commands_change_nothing(copy, file, old, new):
    assert not changed(copy, file, old, new)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("report.py", "box=None", "box=True"),
        ("figures/style.py", "200", "100"),  # imported by what the report imports
        ("templates/report.html.j2", "<", "<!-- new --><"),
    ],
)
def test_code_and_templates_change_it(copy, file, old, new):
    assert changed(copy, file, old, new)


def test_a_report_drawn_by_other_code_is_stale(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, GRID.replace("dpo, step_dpo", "dpo"), "analysis: {bootstrap_draws: 200}\n")
    fill(file)
    assert report.is_current(file, ()) is None
    report.report(file, ())
    assert report.is_current(file, ()) == tmp_path / "results" / "planted" / "report.html"
    monkeypatch.setattr(report, "code_digest", lambda: "another version")
    assert report.is_current(file, ()) is None
