"""docs/api.md and docs/notebook.ipynb run from top to bottom, in a process of their own and without a window."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks_of(path: Path) -> list[str]:
    """The code of a page or a notebook, in order."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["api.md", "notebook.ipynb"])
def test_every_block_runs(name, tmp_path):
    path = ROOT / "docs" / name
    blocks = blocks_of(path)
    assert len(blocks) > 5
    script = tmp_path / "blocks.py"
    script.write_text("\n\n".join(f"# block {number}\n{block}" for number, block in enumerate(blocks)))
    environment = {**os.environ, "MPLBACKEND": "agg", "PYTHONPATH": os.fspath(ROOT)}
    where = ROOT if path.suffix == ".md" else path.parent  # Jupyter starts a notebook in its folder
    command = [sys.executable, "-W", "error", os.fspath(script)]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr


def test_the_notebook_comes_without_outputs():
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
