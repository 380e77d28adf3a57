"""The wheel: it holds all that its packages hold, and from any folder it runs a user's sweep to its report."""

import configparser
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from toy_sweep import TINY

ROOT = Path(__file__).parent.parent
PACKAGES = ("scaling", "algorithms", "data", "analysis")
SETUPTOOLS = "77"  # as pyproject.toml asks; the extra `test` brings it
SECONDS = 900  # of patience with a busy machine


def files_of_the_packages() -> set[str]:
    """Every file of the packages, as a path below the repository."""
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*"))
    return {path.relative_to(ROOT).as_posix() for path in paths if path.is_file() and path.suffix != ".pyc"}


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command apart from this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAY"))}
    words = [os.fspath(word) for word in command]
    return subprocess.run(words, cwd=cwd, env=kept | environment, capture_output=True, text=True, timeout=SECONDS)


def test_every_folder_with_code_is_a_package_that_setup_cfg_finds():
    setuptools = pytest.importorskip("setuptools", minversion=SETUPTOOLS)
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    include = settings["options.packages.find"]["include"].split()
    found = set(setuptools.find_packages(str(ROOT), include=include))
    folders = {name.rpartition("/")[0].replace("/", ".") for name in files_of_the_packages() if name.endswith(".py")}
    assert found == folders
    assert {name.partition(".")[0] for name in found} == set(PACKAGES)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools", minversion=SETUPTOOLS)
    pytest.importorskip("pip")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", *PACKAGES):  # a build leaves folders in its source
        (source / name).symlink_to(ROOT / name)
    built = run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"),
        *("--wheel-dir", out, source),
        cwd=out,
    )
    assert built.returncode == 0, built.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages(wheel):
    with zipfile.ZipFile(wheel) as archive:
        assert files_of_the_packages() <= set(archive.namelist())


@pytest.fixture(scope="module")
def bin_folder(wheel, tmp_path_factory):
    """The commands of a fresh environment that has the wheel, and sees the packages of this one."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    installed = run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel), cwd=folder
    )
    assert installed.returncode == 0, installed.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "beside.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    return folder / "bin"


@pytest.mark.slow
def test_the_wheel_runs_a_users_sweep_to_its_report_from_an_empty_folder(bin_folder, tmp_path):
    here, lab = tmp_path / "here", tmp_path / "lab"
    here.mkdir(), lab.mkdir()
    grid = {"algorithm": ["sft", "rft"], "data_size": [8]}
    (lab / "mine.yaml").write_text(yaml.safe_dump({**TINY, "grid": grid, "seeds": [0]}))
    done = run(bin_folder / "scaling-sweep", lab / "mine.yaml", "--inline", cwd=here)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (here / "results" / "mine" / "report.html").stat().st_size > 1000
    assert list((here / "results" / "store").glob("evaluation/*/record.json"))
    again = run(bin_folder / "python", "-m", "scaling.sweep", lab / "mine.yaml", cwd=here)
    assert again.returncode == 0 and "up to date" in again.stdout, again.stdout + again.stderr
    assert run(bin_folder / "analysis-report", lab / "mine.yaml", cwd=here).returncode == 0
    assert [path.name for path in lab.iterdir()] == ["mine.yaml"]
    assert [path.name for path in here.iterdir()] == ["results"]


@pytest.mark.slow
def test_the_wheel_finds_shipped_policies_and_shapes(bin_folder, tmp_path):
    quickstart = run(bin_folder / "scaling-sweep", ROOT / "sweeps" / "quickstart.yaml", "--plan", cwd=tmp_path)
    assert quickstart.returncode == 0, quickstart.stderr
    assert " 1 stored," in quickstart.stdout  # the base policy
    large = run(
        bin_folder / "scaling-sweep", ROOT / "sweeps" / "gsm8k_7b.yaml", "--plan", cwd=tmp_path, HF_HUB_OFFLINE="1"
    )
    assert large.returncode == 0, large.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_users_module_in_the_current_folder_is_named_and_the_command_without_it_works(bin_folder, tmp_path):
    (tmp_path / "data.py").write_text("rows = []\n")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(TINY))
    refused = run(bin_folder / "python", "-m", "scaling.sweep", "mine.yaml", "--plan", cwd=tmp_path)
    assert refused.returncode == 2 and str(tmp_path / "data.py") in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run(bin_folder / "scaling-sweep", "mine.yaml", "--plan", cwd=tmp_path).returncode == 0
    for command in ("analysis-fit", "analysis-design"):
        assert run(bin_folder / command, "--help", cwd=tmp_path).returncode == 0
