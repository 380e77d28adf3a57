"""Names of checkpoints: a local folder as it is, a hub repository from its cache with its commit, the rest refused."""

import re
import sys

import pytest

from scaling.pretrained.hub import PATTERNS, Source, fetch

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub's cache with one snapshot, and no way out of this machine."""
    reason = "needs huggingface_hub: pip install -e '.[hf]'"
    constants = pytest.importorskip("huggingface_hub.constants", reason=reason)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    return repository / "snapshots" / COMMIT


def test_a_folder_or_a_gguf_file_is_taken_as_it_is(tmp_path):
    assert fetch(str(tmp_path)) == Source(tmp_path, None)
    (tmp_path / "tiny.gguf").touch()
    assert fetch(str(tmp_path / "tiny.gguf")) == Source(tmp_path / "tiny.gguf", None)


def test_what_is_local_has_no_revision(tmp_path):
    with pytest.raises(ValueError, match="is on this machine, but revision is 'main'; only the hub has revisions"):
        fetch(str(tmp_path), "main")


@pytest.mark.parametrize("name", ["models/of/mine", "./nowhere", "gpt2", "https://example.org/x", ""])
def test_what_is_neither_a_folder_nor_a_hub_name_is_refused_before_any_request(name):
    with pytest.raises(
        ValueError, match=f"'{re.escape(name)}' is neither a folder nor a .gguf file on this machine, nor a name"
    ):
        fetch(name)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_hub_name_gives_the_snapshot_and_its_commit(hub, revision):
    assert fetch("someone/tiny", revision) == Source(hub, COMMIT)


def test_what_cannot_be_fetched_is_named_with_its_revision(hub):
    with pytest.raises(
        OSError, match=r"someone/other \(revision v2\) is neither in .* HF_TOKEN; or give a local folder"
    ):
        fetch("someone/other", "v2")


def test_neither_pickles_nor_code_are_fetched(hub, monkeypatch):
    asked = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **given: asked.update(given) or str(hub))
    fetch("someone/tiny", "v1")
    assert asked == {"revision": "v1", "allow_patterns": list(PATTERNS)}
    filtered = pytest.importorskip("huggingface_hub.utils").filter_repo_objects
    files = (
        "config.json",
        "model-00001-of-00002.safetensors",
        "merges.txt",
        "pytorch_model.bin",
        "modeling.py",
        "x.pt",
    )
    assert list(filtered(files, allow_patterns=list(PATTERNS))) == list(files[:3])


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install --editable '.\[hf\]'"):
        fetch("someone/tiny")
