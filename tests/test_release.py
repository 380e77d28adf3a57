"""The files beside the README agree: version, licence, changelog, citation, hooks."""

import configparser
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]


@pytest.fixture(scope="module")
def metadata() -> configparser.SectionProxy:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser["metadata"]


@pytest.fixture(scope="module")
def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def releases() -> list[tuple[str, str]]:
    """(version, date) of the changelog's headings, as they stand."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.findall(r"^## \[([^\]]+)\](?: - (\S+))?$", text, re.M)


def test_the_changelog_opens_with_what_is_unreleased_and_then_has_the_version_of_setup_cfg(metadata):
    names = [name for name, _ in releases()]
    assert names[:2] == ["Unreleased", metadata["version"]]


def test_the_changelogs_releases_have_dates_and_are_sorted_newest_first():
    _, *released = releases()
    dates = [date for _, date in released]
    numbers = [tuple(map(int, name.split("."))) for name, _ in released]
    assert all(re.fullmatch(r"\d{4}-\d{2}-\d{2}", date) for date in dates)
    assert dates == sorted(dates, reverse=True)
    assert numbers == sorted(numbers, reverse=True)


def test_the_citation_has_the_version_and_date_of_the_newest_release(metadata, citation):
    assert citation["version"] == metadata["version"]
    assert citation["date-released"] == releases()[1][1]


def test_the_licence_is_the_one_that_setup_cfg_and_the_citation_name(metadata, citation):
    assert metadata["license"] == citation["license"] == "Apache-2.0"
    words = (ROOT / "LICENSE").read_text(encoding="utf-8").split()
    assert words[:5] == ["Apache", "License", "Version", "2.0,", "January"]
    assert "END OF TERMS AND CONDITIONS" in " ".join(words)


def test_the_hooks_before_a_commit_use_the_tools_of_the_environment_and_download_nothing():
    assert [repo["repo"] for repo in HOOKS] == ["local"]
    for hook in HOOKS[0]["hooks"]:
        assert hook["language"] == "system", hook["id"]
        assert hook["entry"].startswith(".venv/bin/"), hook["id"]
