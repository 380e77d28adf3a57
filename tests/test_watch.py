"""The live page: who may see it, what it says while a sweep runs, and that a browser shows it."""

import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request

import pytest
import yaml
from planted_store import fill

from scaling import sweep as command
from scaling import watch
from scaling.config.errors import ConfigError
from scaling.engine.store import Store
from scaling.planning.sweep_file import load_sweep

SWEEP = {
    "question": "why?",
    "grid": {"algorithm": ["sft", "rft"], "data_size": [8, 16, 32]},
    "seeds": [0, 1],
    "problems": {"family": "modular_sum", "num_test": 20},
}


@pytest.fixture
def half_done(tmp_path):
    """A sweep of which every second evaluation is stored, and one training has logged losses."""
    file = tmp_path / "half.yaml"
    file.write_text(yaml.safe_dump(SWEEP | {"store": str(tmp_path / "store")}))
    plan, store = fill(file)
    targets = [run.stage for run in plan.runs]
    for stage in targets[1::2]:
        assert store.retire(stage)
    return load_sweep(file), Store(store.root), plan


def get(address, **headers):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=3000) as reply:
        return reply.read().decode(), reply.headers


def test_the_page_is_for_those_who_have_its_token(half_done):
    sweep, store, _ = half_done
    with watch.watched(sweep, store, 0, lambda: "3 done") as address:
        assert address.startswith("http://127.0.0.1:")
        page, headers = get(address)
        assert "<h1>Running sweep" in page and headers["Referrer-Policy"] == "no-referrer"
        start, _, token = address.partition("?token=")
        for wrong in (start, f"{start}state", f"{address}x", f"{start}state?token=", f"{start}other?token={token}"):
            with pytest.raises(urllib.error.HTTPError) as error:
                get(wrong)
            assert error.value.code == 404
        assert "<b>3 done</b>" in get(f"{start}state?token={token}")[0]
    with pytest.raises(urllib.error.URLError):
        get(address)
    assert not [thread for thread in threading.enumerate() if thread.name == "watch"]


def test_it_says_what_is_done_and_the_errors_so_far(half_done):
    sweep, store, plan = half_done
    text = watch.fragment(sweep, store, "<b>")
    assert "&lt;b&gt;" in text and "<tr><td>evaluation" in text and "7 of 13" in text
    points = watch.error_points(sweep, plan, store)
    assert [size for size, _ in points["sft"]] == [8, 16, 32]
    run = plan.runs[0]
    assert points[run.cell.algorithm][0] == (8, store.numbers(run.stage)["error"])  # of the one seed that is left


def test_losses_of_a_training_are_read_up_to_a_half_written_line(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps({"update": 5, "train/loss": 2.0}) + '\n{"update": 10, "trai')
    assert watch._losses(file) == [(5.0, 2.0)]
    assert watch._losses(tmp_path / "none") == []
    assert "loss 1" in watch._line_of([(1.0, 2.0), (2.0, 1.0)])


def test_a_port_in_use_is_a_sentence(half_done):
    sweep, store, _ = half_done
    with watch.watched(sweep, store, 0, str) as address:
        port = int(address.split(":")[2].split("/")[0])
        with pytest.raises(ConfigError, match=rf"--watch {port}: .*; give a free port"):
            with watch.watched(sweep, store, port, str):
                pass


@pytest.mark.slow
def test_a_sweep_serves_it_while_it_runs(tmp_path, capsys):
    file = tmp_path / "tiny.yaml"
    small = {"epochs": 1, "batch_size": 4}
    problems = {"family": "modular_sum", "modulus": 11, "operands": 3, "num_test": 8, "num_validation": 4}
    tiny = {"question": "why?", "seeds": [0], "grid": {"algorithm": ["sft"], "data_size": [8]}, "sft": small}
    tiny |= {"problems": problems, "policy": {"size": "xxs", "base": "random"}, "results": str(tmp_path / "results")}
    file.write_text(yaml.safe_dump(tiny | {"store": str(tmp_path / "store")}))
    assert command.main([str(file), "--inline", "--watch", "0"]) == 0
    assert "Watch: http://127.0.0.1:" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_browser_shows_it(half_done):
    sweep, store, _ = half_done
    with watch.watched(sweep, store, 0, lambda: "3 done / 1 running") as address:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom", address]
        found = subprocess.run(["chromium", *arguments], capture_output=True, text=True, timeout=3000, check=True)
    assert (
        "3 done / 1 running" in found.stdout and "<polyline" in found.stdout and "Reading the store" not in found.stdout
    )
