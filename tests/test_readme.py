"""The README says what is there: its commands parse, its make targets exist, its tree is the tree."""

import argparse
import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("scaling", "algorithms", "data", "analysis")


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)


def readme_commands() -> list[list[str]]:
    """The words of every command in the bash blocks; comments are left out."""
    lines = "\n".join(readme_blocks("bash")).replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line.removeprefix("$ "), comments=True) for line in lines) if words]


def python_commands() -> list[tuple[str, list[str]]]:
    """(module, arguments) of every `python -m` in the README."""
    found = []
    for words in readme_commands():
        names = [Path(word).name for word in words]
        if "-m" in words and words.index("-m") and re.match(r"python[\d.]*$", names[words.index("-m") - 1]):
            start = words.index("-m") + 1
            found.append((words[start], words[start + 1 :]))
    return found


class _Parsed(Exception):
    """The command's arguments were accepted; nothing after that should run."""


@pytest.fixture
def only_parse(monkeypatch):
    """Make a command-line module stop once argparse has accepted its arguments."""
    original = argparse.ArgumentParser.parse_args

    def parse_args(self, *arguments, **options):
        original(self, *arguments, **options)
        raise _Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)


def test_the_readme_shows_the_commands_a_visitor_needs():
    commands = [" ".join(words) for words in readme_commands()]
    for command in ("make quickstart", "make test", "python -m scaling.sweep", "python -m analysis.report"):
        assert any(command in shown for shown in commands), f"README.md does not show {command!r} in a bash block"


def test_every_python_command_of_the_readme_names_a_module_and_options_that_exist(monkeypatch, only_parse):
    for module, arguments in python_commands():
        assert importlib.util.find_spec(module), f"README.md: python -m {module}"
        if module.split(".")[0] not in PACKAGES:
            continue
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(_Parsed):
            importlib.import_module(module).main()
        for argument in arguments:
            assert not argument.startswith("sweeps/") or (ROOT / argument).exists(), f"README.md: {argument}"


def test_every_make_target_of_the_readme_is_in_the_makefile():
    targets = set(re.findall(r"^([A-Za-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for words in readme_commands():
        if words[0] == "make":
            named = {word for word in words[1:] if "=" not in word and not word.startswith("-")}
            assert named <= targets, f"README.md: {' '.join(words)}"


def readme_tree() -> list[str]:
    """The paths of the README's tree; an indented line is below the folder above it."""
    blocks = [block for block in readme_blocks("text") if re.search(r"^scaling/", block, re.M)]
    assert len(blocks) == 1, "README.md has one ```text block with the tree, in which scaling/ starts a line"
    paths, parents = [], []
    for line in filter(str.strip, blocks[0].splitlines()):
        indent, name = re.match(r"(\s*)(\S+)", line).groups()
        parents = [(depth, folder) for depth, folder in parents if depth < len(indent)]
        path = (parents[-1][1] if parents else "") + name
        paths.append(path)
        if name.endswith("/"):
            parents.append((len(indent), path))
    return paths


def test_every_path_of_the_readmes_tree_exists():
    for path in readme_tree():
        pattern = re.sub(r"<[^>]*>|[A-Z]+(?=/|\.yaml)", "*", path)  # <sweep> or NAME stands for any
        made_later = path.startswith("results/") and path != "results/"
        assert made_later or any(ROOT.glob(pattern.rstrip("/"))), f"README.md: {path}"


def test_the_readmes_tree_holds_every_folder_at_the_top():
    tree = readme_tree()
    for folder in (*PACKAGES, "sweeps", "results", "tests", "docs"):
        assert any(path.startswith(f"{folder}/") for path in tree), f"README.md: {folder}/ is not in the tree"
