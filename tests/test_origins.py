"""A user's module that hides one of the project's packages: one line that names it, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaling import sweep
from scaling.origins import HOME, PACKAGES, hidden

ROOT = Path(__file__).parent.parent
COMMANDS = ("scaling.sweep", "analysis.report", "analysis.fit", "analysis.design")


def make(folder: Path, name: str, is_package: bool) -> Path:
    path = folder / name / "__init__.py" if is_package else folder / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise RuntimeError('the module of the user was run')\n")
    return path.parent if is_package else path


@pytest.mark.parametrize("is_package", [False, True])
@pytest.mark.parametrize("name", PACKAGES)
def test_a_module_in_the_first_folder_hides_a_package(tmp_path, name, is_package):
    assert HOME == ROOT
    path = make(tmp_path, name, is_package)
    problem = hidden([str(tmp_path), str(ROOT)])
    assert f"{path} hides the package {name}" in problem and "Rename it" in problem
    assert hidden([str(ROOT), str(tmp_path)]) is None


def test_a_folder_of_data_that_is_no_package_hides_nothing(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.jsonl").touch()
    assert hidden([str(tmp_path), str(ROOT)]) is None
    assert hidden([str(tmp_path)]) is None


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_which_file_hides_which_package(tmp_path, command):
    # A hidden package that holds the command itself stops Python before any of our code.
    name = "scaling" if command.startswith("analysis") else "data"
    path = make(tmp_path, name, is_package=False)
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", command, "--help"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and str(path) in done.stderr


def test_ray_is_not_started_where_its_workers_would_find_the_users_module(tiny, tmp_path, monkeypatch, capsys):
    file = tiny()
    path = make(tmp_path, "data", is_package=False)
    monkeypatch.chdir(tmp_path)
    assert sweep.main([file]) == 2
    assert f"{path} hides the package data" in capsys.readouterr().err
