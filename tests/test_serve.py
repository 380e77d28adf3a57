"""Servers that come and go with the policies that are wanted."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import pytest
from tiny_policy import CONFIG, random_params

pytest.importorskip("httpx", reason="needs httpx: pip install -e '.[remote]'")

from scripted_server import completion

from data.sampling import completion_server
from data.sampling.export import policy_name
from data.sampling.remote_sampler import RemoteSampler, seeds_of
from data.tokens.tokenizer import Tokenizer
from scaling.config.sampling import WANTED_SUFFIX, Sampler
from scaling.model.policy import Policy, save_policy
from scaling.serve import Marks, serve

SERVER = str(Path(__file__).parent / "scripted_server.py")
TOKENIZER = Tokenizer(tuple(f"w{index}" for index in range(3, CONFIG.vocab_size)))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def touch(folder: Path, name: str, seconds: int) -> None:
    mark = folder / f"{name}{WANTED_SUFFIX}"
    mark.touch()
    os.utime(mark, (seconds, seconds))


def test_a_mark_counts_when_it_changes_and_for_a_while(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    touch(tmp_path, "left-over", 5)
    marks = Marks(tmp_path, idle_seconds=60.0)
    assert marks.wanted() == []
    touch(tmp_path, "b", 3)
    assert marks.wanted() == ["b"]
    now = 10.0
    touch(tmp_path, "a", 1)  # an older time than b's: another machine's clock
    assert marks.wanted() == ["b", "a"]
    now = 55.0
    touch(tmp_path, "b", 2)
    assert marks.wanted() == ["b", "a"]
    now = 75.0
    assert marks.wanted() == ["b"]


def test_two_policies_are_served_in_turn_by_the_same_port(tmp_path, monkeypatch):
    monkeypatch.setattr(completion_server, "POLL_SECONDS", 0.1)
    monkeypatch.setattr("data.sampling.remote_sampler.TOUCH_SECONDS", 0.05)
    port, exports = free_port(), tmp_path / "exports"
    exports.mkdir()
    given = {"endpoint": f"http://127.0.0.1:{port}/v1", "export": True, "folder": str(exports), "wait_minutes": 1.0}
    keys = jax.random.split(jax.random.key(0), 3)
    prompts, limits = [[1, 4, 5]] * 3, [6] * 3
    expected = [completion(*row) for row in zip(prompts, seeds_of(keys), limits, strict=True)]
    samplers = {}
    for seed in (0, 1):
        folder = tmp_path / f"policy{seed}"
        folder.mkdir()
        save_policy(Policy(random_params(seed), CONFIG), folder)
        samplers[policy_name({"policy": folder})] = RemoteSampler(
            Sampler.model_validate(given), {"policy": folder}, folder, TOKENIZER
        )
    assert len(samplers) == 2 and {path.name for path in exports.iterdir()} == set(samplers)

    over = threading.Event()
    command = [sys.executable, SERVER, "{name}", str(port)]
    watching = threading.Thread(target=serve, args=(exports, command, 0.05, 0.5, lambda: not over.is_set()))
    watching.start()
    found = {}

    def sample(name: str) -> None:
        sampled = samplers[name].sample(prompts, keys, limits, 1.0)
        found[name] = [row[:length].tolist() for row, length in zip(sampled.tokens, sampled.lengths, strict=True)]

    stages = [threading.Thread(target=sample, args=(name,)) for name in samplers]
    for stage in stages:
        stage.start()
    for stage in stages:
        stage.join(60.0)
    over.set()
    watching.join(10.0)
    assert found == dict.fromkeys(samplers, expected)
    with pytest.raises(ConnectionRefusedError):  # the last server was stopped
        socket.create_connection(("127.0.0.1", port), 1.0)


def test_a_server_that_ends_by_itself_ends_the_watch_with_its_exit_code(tmp_path):
    watching = threading.Timer(0.3, touch, (tmp_path, "a", 1))
    watching.start()
    assert serve(tmp_path, [sys.executable, "-c", "raise SystemExit(3)"], 0.05, 60.0) == 3


def test_the_command_line_stops_its_server_when_it_is_stopped(tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "scaling.serve", str(tmp_path), "--", sys.executable, SERVER, "{name}", str(port)]
    watch = subprocess.Popen(command, cwd=Path(__file__).parent.parent, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    seconds = 0
    while True:
        touch(tmp_path, "a", seconds := seconds + 1)
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline and watch.poll() is None
            time.sleep(0.2)
    watch.send_signal(signal.SIGTERM)
    assert watch.wait(20) == 143
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1.0)
