"""The chat teacher against `transformers serve`, an independent server of the protocol, on a tiny random model."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("httpx")
pytest.importorskip("tenacity")
pytest.importorskip("torch", reason="needs a server: pip install -e '.[test,hf,teacher,serving]'")
pytest.importorskip("openai", reason="needs a server: pip install -e '.[test,hf,teacher,serving]'")

from plain_sums import subject

from data.records import read_jsonl
from data.teacher.protocol import TeacherError
from data.teacher.rows import taught
from scaling.config.teacher import Teacher

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(URL, model): a random policy of bytes, served until the module is done."""
    from random_checkpoint import save_random

    folder = tmp_path_factory.mktemp("served")
    model = str(save_random(folder / "model"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model]
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert server.poll() is None, (folder / "log").read_text()[-2000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", model
    finally:
        server.terminate()
        server.wait(timeout=300)


def test_its_replies_are_read_counted_and_kept_and_judged_to_be_of_no_use(served, tmp_path):
    url, model = served
    settings = {"model": model, "endpoint": url, "api_key_env": None, "max_tokens": 12, "max_concurrency": 2}
    for attempts in (4, 8):
        teacher = Teacher.model_validate({**settings, "max_rejected_in_a_row": attempts})
        with pytest.raises(TeacherError, match=rf"the last {attempts} attempts gave no problem"):
            taught(teacher, subject(), attempts, 0, tmp_path)
        replies = read_jsonl(tmp_path / "seed-0.jsonl")
        # Those on their way when the last attempt was judged are kept as well.
        assert attempts <= len(replies) <= attempts + 2 and len({reply["key"] for reply in replies}) == len(replies)
    for reply in replies:
        assert reply["finish_reason"] in ("length", "stop") and isinstance(reply["content"], str)
        assert 0 < reply["output_tokens"] <= 12 and reply["input_tokens"] > 1000  # bytes are its tokens
        assert not reply["tokens_are_estimated"] and reply["endpoint"] == url


def test_a_model_that_it_does_not_have_is_one_error(served, tmp_path):
    url, _ = served
    teacher = Teacher.model_validate({"model": "no/such-model", "endpoint": url, "api_key_env": None, "max_tries": 1})
    with pytest.raises(TeacherError, match="teacher no/such-model"):
        taught(teacher, subject(), 2, 0, tmp_path)
