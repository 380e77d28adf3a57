"""docs/tutorial.md, block by block, in an empty folder: what it writes, runs, and says that it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def beginnings(text: str) -> set[str]:
    """What the lines of a text begin with before their first number: numbers differ between machines."""
    return {found[0].strip() for line in text.splitlines() if (found := re.match(r"\s*[A-Za-z][A-Za-z ]*", line))}


@pytest.mark.slow
def test_every_block_does_what_the_page_says(tmp_path):
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT), "MPLBACKEND": "agg", "COLUMNS": "100"}
    script, printed, num_shown = "", "", 0

    def run(command: list[str]) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=3000)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for language, block in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "bash":
            printed = "".join(run([sys.executable, *line.split()[1:]]) for line in block.splitlines())
        elif language == "yaml":
            (tmp_path / "mine" / "sums.yaml").write_text(block)
        elif language == "python":
            script += block
            printed = run([sys.executable, "-c", block if "mine/rows.jsonl" in block else after_rows(script)])
        elif language == "text":
            num_shown += 1
            assert beginnings(block) <= beginnings(printed), printed
            assert "first pit" in printed or "first pit" not in block
    assert num_shown == 2
    assert (tmp_path / "mine" / "error.pdf").stat().st_size > 1000
    runs = pd.read_csv(tmp_path / "results" / "sums" / "runs.csv")
    errors = runs[runs["algorithm"] == "sft"].groupby("data_size")["error"].mean()
    assert errors[440] < 0.6 < errors[120], "the policy no longer learns these sums; see the page's table"


def after_rows(script: str) -> str:
    """The blocks behind the one that writes the problems, which does not run twice."""
    return script[script.index("from analysis.api") :]
