"""scaling.tracking: a sweep's runs in tensorboard, wandb and MLflow, read back with each tracker's own reader."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pandas as pd
import pytest

from scaling import sweep, tracking


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A finished sweep of two algorithms, trained for real, and its runs.csv."""
    from toy_sweep import writer

    folder = tmp_path_factory.mktemp("tracked")
    grid = {"algorithm": ["sft", "rft"], "data_size": [8]}
    file = writer(folder)(grid=grid, seeds=[0], results=str(folder / "results" / "tiny"))
    assert sweep.main([file, "--inline"]) == 0
    return file, folder / "results" / "tiny"


def table_of(results):
    return pd.read_csv(results / "runs.csv").set_index("algorithm")


def curve_of(file, algorithm, capsys):
    from scaling import show

    capsys.readouterr()
    assert show.main([file, "curves", "--algorithm", algorithm, "--json"]) == 0
    return {row["update"]: row["train/loss"] for row in json.loads(capsys.readouterr().out)}


def test_tensorboard_has_each_run_once_with_its_curve_and_its_error(ran, capsys):
    pytest.importorskip("tensorboardX", reason="pip install -e '.[tracking]'")
    file, results = ran
    assert sweep.main([file, "--inline", "--log-to", "tensorboard"]) == 0
    assert "tensorboard: 2 runs written." in capsys.readouterr().out
    for algorithm, row in table_of(results).iterrows():
        scalars = scalars_of(results.parent / "tensorboard" / "tiny" / row["stage"])
        assert scalars["train/loss"] == pytest.approx(curve_of(file, algorithm, capsys))
        assert list(scalars["error"].values()) == pytest.approx([row["error"]])
    assert sweep.main([file, "--inline", "--log-to", "tensorboard"]) == 0
    assert "tensorboard: 0 runs written." in capsys.readouterr().out
    assert pd.read_csv(results / "logged.csv")["tracker"].tolist() == ["tensorboard"] * 2


def scalars_of(folder):
    """Tag -> update -> value, of all event files below a folder."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    for path in folder.rglob("events.out.*"):
        content, at = path.read_bytes(), 0
        while at < len(content):  # TFRecord: length, its checksum, data, its checksum
            length = int.from_bytes(content[at : at + 8], "little")
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_wandb_offline_holds_the_runs(ran, tmp_path, monkeypatch, capsys):
    pytest.importorskip("wandb", reason="pip install -e '.[tracking]'")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    file, results = ran
    assert sweep.main([file, "--inline", "--log-to", "wandb"]) == 0
    errors = {}
    for path in tmp_path.rglob("*.wandb"):
        name, summary = "", {}
        for data in leveldb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            name = record.run.display_name or name
            summary |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.summary.update}
        errors[name] = summary["error"]
    assert errors == pytest.approx(table_of(results).set_index("stage")["error"].to_dict())


def leveldb_records(content):
    """The records of a wandb file: 7 bytes, then LevelDB's log format in blocks of 32 KiB."""
    at, block, parts = 7, 1 << 15, b""
    while at + 7 <= len(content):
        if block - at % block < 7:
            at += block - at % block  # padding
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, last
            yield parts
            parts = b""


@pytest.fixture
def server(tmp_path):
    """An MLflow server of this machine, on a fresh database."""
    pytest.importorskip("mlflow", reason="pip install -e '.[tracking]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    where = ["--backend-store-uri", f"sqlite:///{tmp_path}/runs.db", "--artifacts-destination", str(tmp_path)]
    with (tmp_path / "log").open("w") as log, subprocess.Popen([*command, *where], stdout=log, stderr=log) as process:
        try:
            address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 300
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    urllib.request.urlopen(f"{address}/health", timeout=5).read()
                    break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.5)
            yield address
        finally:
            process.terminate()


@pytest.mark.slow
def test_an_mlflow_server_gets_the_runs(ran, server, monkeypatch, capsys):
    import mlflow

    mlflow.set_tracking_uri(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    file, results = ran
    assert sweep.main([file, "--inline", "--log-to", "mlflow"]) == 0
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id])
    rows = table_of(results).reset_index().set_index("stage")
    assert {run.info.run_name for run in runs} == set(rows.index)
    for run in runs:
        row = rows.loc[run.info.run_name]
        assert run.data.params["algorithm"] == row["algorithm"]
        assert run.data.metrics["error"] == pytest.approx(row["error"])
        curve = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "train/loss")}
        assert curve == pytest.approx(curve_of(file, row["algorithm"], capsys))


def test_a_missing_library_is_named_before_anything_runs(tiny, toys, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert sweep.main([tiny(), "--log-to", "wandb"]) == 2
    assert "--log-to wandb: wandb is not installed; install the extra" in capsys.readouterr().err and not toys.ran


def test_every_tracker_is_named_in_the_help(capsys):
    with pytest.raises(SystemExit):
        sweep.main(["--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in tracking.TRACKERS)
