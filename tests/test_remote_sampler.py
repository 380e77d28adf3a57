"""Sampling on a server: the rows that come back, and what happens when the server does not do as it should."""

import json
import logging

import jax
import numpy as np
import pytest
from scripted_server import EOS, VOCABULARY, ScriptedServer, completion
from tiny_policy import CONFIG, random_params

pytest.importorskip("httpx", reason="needs httpx: pip install -e '.[remote]'")

from data import http_requests
from data.sampling import completion_server
from data.sampling.export import policy_name
from data.sampling.remote_sampler import RemoteSampler, seeds_of
from data.sampling.server_answers import ServerError
from data.tokens.tokenizer import Tokenizer
from scaling.config.sampling import Sampler
from scaling.model.policy import Policy, save_policy
from scaling.model.replay import Replay
from scaling.stage import PROVENANCE_FILE

TOKENIZER = Tokenizer(tuple(f"w{index}" for index in range(3, CONFIG.vocab_size)))
PROMPTS = [[1, 3 + row % 5, 4] for row in range(24)]
KEYS = jax.random.split(jax.random.key(7), len(PROMPTS))
LIMITS = [4 + row % 6 for row in range(24)]
EXPECTED = [completion(*row) for row in zip(PROMPTS, seeds_of(KEYS), LIMITS, strict=True)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(http_requests, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(completion_server, "POLL_SECONDS", 0.05)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    save_policy(Policy(random_params(0), CONFIG), folder)
    return folder


def sampler(policy, out, url, **settings) -> RemoteSampler:
    given = {"endpoint": url, "model": "mine", "wait_minutes": 0.0, "timeout_seconds": 5.0, **settings}
    out.mkdir(exist_ok=True)
    return RemoteSampler(Sampler.model_validate(given), {"policy": policy}, out, TOKENIZER)


def tokens_of(sampled) -> list[list[int]]:
    return [row[:length].tolist() for row, length in zip(sampled.tokens, sampled.lengths, strict=True)]


def sample(remote, rows=slice(None), temperature=1.0):
    keys = KEYS[np.arange(len(PROMPTS))[rows]]
    return tokens_of(remote.sample(PROMPTS[rows], keys, LIMITS[rows], temperature, 0.9))


def test_rows_come_back_in_order_with_tokens_lengths_and_logps(policy, tmp_path):
    with ScriptedServer("mine") as server:
        remote = sampler(policy, tmp_path, server.url)
        sampled = remote.sample(PROMPTS, KEYS, LIMITS, 0.7, 0.9)
    assert tokens_of(sampled) == EXPECTED
    assert {row[-1] == EOS for row in EXPECTED} == {True, False}
    assert sampled.tokens.shape == (24, max(LIMITS)) and sampled.tokens.dtype == np.int32
    np.testing.assert_array_equal(sampled.logps, [-0.5 * len(row) for row in EXPECTED])
    assert remote.numbers() == {"num_server_rows": 24.0, "num_rows_from_text": 0.0, "num_rows_not_round_tripped": 0.0}
    for body in server.bodies:
        assert (body["temperature"], body["top_p"], body["top_k"], body["stop_token_ids"]) == (0.7, 0.9, 0, [EOS])


def test_a_seed_follows_from_the_rows_key_alone(policy, tmp_path):
    seeds = seeds_of(KEYS)
    assert len(set(seeds)) == len(seeds) and all(0 < seed < 2**31 for seed in seeds)
    with ScriptedServer("mine") as server:
        some = sample(sampler(policy, tmp_path, server.url), slice(5, 9))
    assert some == EXPECTED[5:9] and sorted(body["seed"] for body in server.bodies) == sorted(seeds[5:9])


@pytest.mark.parametrize("fault", [429, 500, 503, "drop", "hang"])
def test_what_passes_by_itself_is_asked_again_and_changes_nothing(policy, tmp_path, fault, caplog):
    caplog.set_level(logging.INFO)
    settings = {"timeout_seconds": 8.0} if fault == "hang" else {}
    with ScriptedServer("mine", lambda number: fault if number in (0, 3, 7) else None) as server:
        assert sample(sampler(policy, tmp_path, server.url, **settings)) == EXPECTED
    assert len(server.bodies) == 24 + 3
    assert sum(" of 8 follows in " in message for message in caplog.messages) == 3


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "overloaded", "type": "server_error", "code": 503}, "choices": []},
        {"error": "upstream timed out", "choices": None},
        {"object": "error", "message": "busy", "code": "429", "choices": None},
        {"error": {"message": "try later"}, "choices": []},
    ],
)
def test_an_error_under_status_200_that_may_pass_is_asked_again(policy, tmp_path, body):
    with ScriptedServer("mine", lambda number: json.dumps(body) if number in (0, 3, 7) else None) as server:
        assert sample(sampler(policy, tmp_path, server.url)) == EXPECTED
    assert len(server.bodies) == 24 + 3


@pytest.mark.parametrize("code", [400, 404, "invalid_request_error", "insufficient_quota"])
def test_an_error_under_status_200_that_stays_is_final(policy, tmp_path, code):
    body = {"error": {"message": "no such thing", "code": code}, "choices": []}
    with ScriptedServer("mine", lambda number: json.dumps(body)) as server:
        with pytest.raises(ServerError, match="/completions answers HTTP 200: no such thing"):
            sample(sampler(policy, tmp_path, server.url, max_concurrency=1))
    assert len(server.bodies) == 1


def test_after_the_last_try_the_error_says_so_and_the_answers_are_kept(policy, tmp_path):
    with ScriptedServer("mine", lambda number: 500 if number >= 10 else None) as server:
        with pytest.raises(ServerError, match=r"3 tries of .* HTTP 500: scripted 500\. What was answered is kept"):
            sample(sampler(policy, tmp_path, server.url, max_concurrency=1, max_tries=3))
    assert len(server.bodies) == 10 + 3
    with ScriptedServer("mine") as server:
        assert sample(sampler(policy, tmp_path, server.url)) == EXPECTED
    assert len(server.bodies) == 24 - 10


def test_a_refusal_is_final_and_says_what_the_server_said(policy, tmp_path):
    with ScriptedServer("mine", lambda number: 400) as server:
        with pytest.raises(ServerError, match=r"/completions answers HTTP 400: scripted 400"):
            sample(sampler(policy, tmp_path, server.url, max_concurrency=1))
    assert len(server.bodies) == 1


def test_an_answer_that_is_not_json_is_an_error(policy, tmp_path):
    with ScriptedServer("mine") as server, pytest.raises(ServerError, match="/models answers HTTP 404"):
        sample(sampler(policy, tmp_path, server.url.replace("/v1", "/v2")))


def test_an_absent_server_is_named_with_the_command_that_starts_one(policy, tmp_path):
    with ScriptedServer("mine") as server:
        url = server.url
    remote = sampler(policy, tmp_path, url, export=True, model=None, folder=str(tmp_path / "exports"))
    name, port = policy_name({"policy": policy}), url.split(":")[-1].removesuffix("/v1")
    with pytest.raises(ServerError, match=rf"ConnectError.* vllm serve .*/exports/{name} .*--port {port}"):
        sample(remote)
    assert (tmp_path / "exports" / f"{name}.wanted").exists()


def test_a_server_of_another_model_is_named_and_waited_for(policy, tmp_path):
    with ScriptedServer("theirs") as server:
        with pytest.raises(ServerError, match=r"127.0.0.1:\d+ serves theirs, not mine. Start a server that lists"):
            sample(sampler(policy, tmp_path, server.url))
        assert not server.bodies


def test_an_exported_policy_is_known_by_its_name_or_its_folder_and_never_by_a_name_alone(policy, tmp_path):
    name, folder = policy_name({"policy": policy}), str(tmp_path / "exports")
    with ScriptedServer("theirs") as server:
        for settings, card in (
            ({"model": None}, {"id": name}),
            ({"model": None}, {"id": f"{folder}/{name}", "root": f"{folder}/{name}"}),
            ({"model": "mine"}, {"id": "mine", "root": f"{folder}/{name}"}),
        ):
            server.models = [card]
            out = tmp_path / str(len(server.bodies))
            assert sample(sampler(policy, out, server.url, export=True, folder=folder, **settings)) == EXPECTED
            assert server.bodies[-1]["model"] == card["id"]
        server.models = [{"id": "mine", "root": "/exports/policy-of-another"}]
        with pytest.raises(ServerError, match=f"serves mine, not {name}"):
            sample(sampler(policy, tmp_path / "wrong", server.url, export=True, folder=folder))


def test_a_context_that_is_too_short_is_an_error_before_anything_is_asked(policy, tmp_path):
    with ScriptedServer("mine", max_model_len=11) as server:
        with pytest.raises(ServerError, match=r"context of 11 tokens.* need 12; .*--max-model-len 12"):
            sample(sampler(policy, tmp_path, server.url))
        assert not server.bodies


def test_text_alone_is_encoded_again_and_rows_that_differ_are_counted(policy, tmp_path, caplog):
    def only_text(number):
        told = {"token_ids": None, "logprobs": None, "prompt_token_ids": None}
        return {**told, "text": "w3 w4 w5 w6 w7 w8 w9 w10 w11"} if number == 0 else told

    with ScriptedServer("mine", only_text) as server:
        remote = sampler(policy, tmp_path, server.url, max_concurrency=1)
        sampled = remote.sample(PROMPTS, KEYS, LIMITS, 1.0)
    assert tokens_of(sampled)[1:] == EXPECTED[1:] and sampled.logps is None
    assert remote.numbers() == {"num_server_rows": 24.0, "num_rows_from_text": 24.0, "num_rows_not_round_tripped": 1.0}
    assert "24 of 24 completions came as text without token ids" in caplog.text and "; 1 of them surely" in caplog.text


def test_the_key_comes_from_the_environment_and_is_written_nowhere(policy, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_SERVERS_KEY", "s3cret")
    with ScriptedServer("mine", lambda number: 500 if number == 0 else None) as server:
        sample(sampler(policy, tmp_path, server.url, api_key_env="MY_SERVERS_KEY"))
        assert {headers["Authorization"] for headers in server.headers} == {"Bearer s3cret"}
        assert "s3cret" not in caplog.text
        assert not any(b"s3cret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        monkeypatch.delenv("MY_SERVERS_KEY")
        with pytest.raises(ServerError, match="is MY_SERVERS_KEY, and the environment has no such variable"):
            sample(sampler(policy, tmp_path / "again", server.url, api_key_env="MY_SERVERS_KEY"))


def test_provenance_has_host_model_and_version_and_no_credentials(policy, tmp_path):
    with ScriptedServer("mine") as server:
        sample(sampler(policy, tmp_path, server.url))
    told = json.loads((tmp_path / PROVENANCE_FILE).read_text())["sampler"]
    host = server.url.removeprefix("http://").removesuffix("/v1")
    server = {"host": host, "model": "mine", "owned_by": "scripted", "max_model_len": 512, "version": "1.2.3"}
    assert told == {"policy": policy_name({"policy": policy}), "servers": [server]}


def test_requests_start_no_faster_than_asked_for(policy, tmp_path):
    import time

    with ScriptedServer("mine") as server:
        start = time.monotonic()
        sample(sampler(policy, tmp_path, server.url, requests_per_minute=6000.0))
        assert time.monotonic() - start >= 24 / 100  # the list of models, then 24 completions


def test_a_replay_on_a_server_counts_what_it_took(policy, tmp_path):
    assert VOCABULARY < CONFIG.vocab_size
    with ScriptedServer("mine") as server:
        remote = sampler(policy, tmp_path, server.url)
        replay = Replay(remote.sample, remote.shape, 1.0, keeps_logits=False)
        for _ in range(2):
            assert replay.complete(PROMPTS, KEYS, LIMITS) == EXPECTED
    assert len(server.bodies) == 24 and replay.num_replayed_tokens == 0
    assert replay.num_generated_tokens == 2 * sum(map(len, EXPECTED)) and replay.generation_flops > 0
