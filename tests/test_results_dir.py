"""Where a sweep's store and results are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.config.errors import ConfigError
from scaling.config.sweep import Sweep
from scaling.engine import results_dir as module
from scaling.engine.results_dir import make_writable, open_store, results_dir
from scaling.paths import SHIPPED

ROOT = Path(__file__).parent.parent


def sweep_at(store: str) -> Sweep:
    return Sweep.model_validate({"question": "?", "grid": ({"algorithm": ("sft",)},), "seeds": [0], "store": store})


def test_a_relative_store_is_below_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert os.fspath(open_store(sweep_at("results/store")).root) == os.fspath(tmp_path / "results/store")


def test_an_absolute_store_and_one_in_the_home_stay_where_they_are(tmp_path):
    assert os.fspath(open_store(sweep_at(str(tmp_path))).root) == os.fspath(tmp_path)
    assert os.fspath(open_store(sweep_at("~/store")).root) == os.fspath(Path.home() / "store")


def test_a_bucket_is_not_taken_for_a_folder(monkeypatch):
    monkeypatch.setattr(module, "_check_access", lambda store: None)
    store = open_store(sweep_at("s3://bucket/store"))
    assert os.fspath(store.root) == "s3://bucket/store"
    assert not store.is_local


def test_a_bucket_without_credentials_is_one_clear_error(tmp_path):
    file = tmp_path / "bucket.yaml"
    grid = "{algorithm: [sft], data_size: [16]}"
    file.write_text(f"question: Is it there?\nstore: s3://bucket/store\ngrid: {grid}\nseeds: [0]\n")
    hidden = {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "1",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | hidden
    # In a process of its own: fsspec keeps a file system without credentials for the rest of the process.
    command = [sys.executable, "-m", "scaling.sweep", os.fspath(file), "--plan"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 2
    assert "store is s3://bucket/store, which cannot be read: Unable to locate credentials." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_store_that_is_a_file_is_one_clear_error(tmp_path, below):
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(ConfigError, match="which cannot be read: Not a directory"):
        open_store(sweep_at(os.path.join(file, below) if below else str(file)))


def test_a_store_of_an_unknown_kind_is_one_clear_error():
    with pytest.raises(ConfigError, match="store is ftp://host/store; name a folder, or a bucket"):
        open_store(sweep_at("ftp://host/store"))


def test_a_store_that_cannot_be_made_is_one_clear_error_before_anything_starts(tmp_path, monkeypatch):
    store = open_store(sweep_at(str(tmp_path / "store")))
    make_writable(store)
    assert (tmp_path / "store").is_dir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match="cannot be written to: this user may not write there"):
        make_writable(store)
    (tmp_path / "store").rmdir()
    (tmp_path / "store").write_text("a file meanwhile")
    with pytest.raises(ConfigError, match="cannot be written to: File exists"):
        make_writable(store)


def test_opening_a_store_makes_no_folder_and_knows_the_shipped_artifacts(tmp_path):
    store = open_store(sweep_at(str(tmp_path / "store")))
    assert not (tmp_path / "store").exists()
    assert os.fspath(store.shipped) == os.fspath(SHIPPED)
    assert SHIPPED == ROOT / "scaling" / "shipped"


def results(file: str, overrides=()) -> Path:
    return results_dir(Path(file), overrides, sweep_at("store"))


def test_the_results_of_a_sweep_are_in_a_folder_of_its_name_below_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert results("anywhere/main.yaml") == tmp_path / "results" / "main"


def test_overrides_give_results_a_folder_of_their_own_whatever_their_order():
    first = results("main.yaml", ["sft.epochs=3", "seeds=[0, 1]"])
    assert first == results("main.yaml", ["seeds=[0, 1]", "sft.epochs=3"])
    assert len({first, results("main.yaml"), results("main.yaml", ["sft.epochs=4"])}) == 3


@pytest.mark.parametrize("override", ["store=/tmp/x", "question=a/../../b", 'problems={family: "star_graph"}'])
def test_an_override_never_leads_out_of_results(override):
    folder = results("main.yaml", [override])
    assert folder.parent == Path.cwd() / "results"
    assert folder.resolve() == folder


def test_many_overrides_give_a_name_that_a_file_system_allows_and_nothing_else_has():
    many = [f"problems.path=/data/{'x' * 40}/{index}" for index in range(8)]
    name, other = (results("main.yaml", given).name for given in (many, [*many[:-1], "seeds=[1]"]))
    assert len(name) == len(other) == module.LONGEST_NAME and name != other
    assert name.startswith("main+problems.path=") and results("main.yaml", many[::-1]).name == name
