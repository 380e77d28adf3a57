"""The stages that sample, on a server: the same records, an identity without it, and no answer lost to a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from scripted_server import ScriptedServer, completion
from stage_config import whole
from tiny_chain import CONFIGS, NUM_PROBLEMS, PROBLEMS, SAMPLES, TOKENIZER, Chain

pytest.importorskip("httpx", reason="needs httpx: pip install -e '.[remote]'")

from data import evaluation, rollouts
from data.rollout_tables import load_rollouts
from data.sampling.sampler import sampler_of
from data.sets import problem_sets
from scaling.config.sampling import Sampler
from scaling.config.section import plain
from scaling.config.sweep import Cell
from scaling.engine.store import Store
from scaling.engine.worker import Done, run_stage
from scaling.planning import recipes
from scaling.planning.recipes import critical_steps
from scaling.stage import Stage, in_order

SERVER = plain(Sampler(endpoint="http://127.0.0.1:1/v1", model="mine", wait_minutes=0.0))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Synthetic problems and a random policy."""
    return Chain(tmp_path_factory.mktemp("chain"), "base")


def remote(url: str, **settings) -> dict:
    return {"sampler": "remote", "server": {**SERVER, "endpoint": url, **settings}}


def by_the_rule(server: ScriptedServer) -> dict[tuple, list[int]]:
    """(prompt, seed) -> the completion that the server gave."""
    return {
        (tuple(body["prompt"]), body["seed"]): completion(body["prompt"], body["seed"], body["max_tokens"])
        for body in server.bodies
    }


def test_rollouts_of_a_server_have_the_columns_and_rows_of_ours(base, tmp_path):
    config = {"problems": PROBLEMS, **CONFIGS["rollouts"]}
    inputs = base.inputs(policy="base", synthetic="synthetic")
    with ScriptedServer("mine") as server:
        numbers = rollouts.run({**config, **remote(server.url)}, inputs, tmp_path)
    ours = tmp_path / "ours"
    ours.mkdir()
    local_numbers = rollouts.run(config, inputs, ours)
    theirs, local = load_rollouts(tmp_path), load_rollouts(ours)
    assert list(theirs.columns) == list(local.columns) and theirs.dtypes.equals(local.dtypes)
    assert theirs[["problem", "sample"]].equals(local[["problem", "sample"]])
    assert sorted(theirs["tokens"]) == sorted(by_the_rule(server).values())
    assert set(numbers) - set(local_numbers) == {"num_server_rows", "num_rows_from_text", "num_rows_not_round_tripped"}
    assert numbers["num_generated_tokens"] == theirs["tokens"].map(len).sum()


@pytest.mark.parametrize("adaptive", [False, True])
def test_step_values_come_from_a_server(values_chain, tmp_path, adaptive):
    traces = {"traces": "negatives"} if adaptive else {}
    settings = {**CONFIGS["step_values"]["step_values"], "best_of": 1, "adaptive": adaptive}
    with ScriptedServer("mine") as server:
        out = tmp_path / "out"
        numbers = values_chain.rerun("step_values", out, step_values=settings, **traces, **remote(server.url))
    found = pd.read_parquet(out / "continuations.parquet")
    assert numbers["num_server_rows"] == len(found) == len(server.bodies) > 0
    assert sorted(map(list, found["tokens"])) == sorted(by_the_rule(server).values())
    prompts = {tuple(body["prompt"]) for body in server.bodies}
    assert all(prompt[0] == 1 and TOKENIZER.id_of(";") == prompt[-1] for prompt in prompts)  # whole steps


def test_evaluation_comes_from_a_server_greedy_and_sampled(base, tmp_path):
    problems = {**PROBLEMS, "num_validation": 3, "num_test": 5}
    for name in ("problems", "out"):
        (tmp_path / name).mkdir()
    problem_sets.run({"problems": problems}, {}, tmp_path / "problems")
    config = whole({"problems": problems, "evaluation": {"samples_per_problem": 4}, "split": "test", "seed": 0})
    with ScriptedServer("mine") as server:
        inputs = {"policy": base["base"], "problems": tmp_path / "problems"}
        numbers = evaluation.run({**config, **remote(server.url)}, inputs, tmp_path / "out")
    assert [body["temperature"] for body in server.bodies].count(0.0) == 5
    assert numbers["num_server_rows"] == len(server.bodies) == 5 * (1 + 4)
    assert len(pd.read_parquet(tmp_path / "out" / "outcomes.parquet")) == 5


def digests(cell: Cell) -> dict[str, str]:
    return {stage.kind: stage.digest for stage in in_order([recipes.evaluation(cell, 0)])}


def test_that_a_server_samples_is_part_of_the_identity_and_which_one_is_not():
    asked = {"api_key_env": "KEY", "max_concurrency": 3, "requests_per_minute": 9.0, "timeout_seconds": 9.0}
    asked |= {"max_tries": 2, "wait_minutes": 9.0, "folder": "/elsewhere"}
    elsewhere = {"endpoint": "https://elsewhere/v1", "model": "m", **asked}
    assert {"export", *elsewhere} == set(Sampler.model_fields)
    ours, one, other, model = (
        Cell.of(**{"algorithm": "step_dpo", **section})
        for section in (
            {},
            {"sampler": {"endpoint": "http://gpu7:8000/v1", "export": True}},
            {"sampler": {**elsewhere, "export": True}},
            {"sampler": elsewhere},
        )
    )
    assert digests(one) == digests(other) != digests(model)  # a model that is no export samples for any policy
    changed = {kind for kind, digest in digests(one).items() if digest != digests(ours)[kind]}
    assert changed == {"rollouts", "verification", "step_values", "step_pairs", "dpo", "evaluation"}


def test_only_the_stages_that_sample_are_told_of_the_server():
    cell = Cell.of(**{"algorithm": "step_dpo", "sampler": {"endpoint": "http://gpu7/v1", "export": True}})
    told = {stage.kind: stage.execution for stage in in_order([recipes.evaluation(cell, 0)])}
    assert {kind for kind, execution in told.items() if execution} == {"rollouts", "step_values", "evaluation"}
    assert Path(told["rollouts"]["server"]["folder"]) == Path.cwd() / "results" / "exports"


def test_traces_and_values_of_critical_steps_come_from_the_server_too():
    chosen = {"algorithm": "rft", "evaluation": {"critical_steps": {}}}
    ours, theirs = (
        critical_steps(Cell.of(**{**chosen, **section}), 0)
        for section in ({}, {"sampler": {"endpoint": "http://gpu7/v1", "export": True}})
    )
    told = {stage.name: stage for stage in in_order([theirs]) if stage.kind in ("critical_traces", "step_values")}
    assert len(told) == 3 and all(stage.execution["server"] for stage in told.values())
    assert not {stage.digest for stage in told.values()} & {stage.digest for stage in in_order([ours])}


def test_a_missing_extra_is_one_error_that_names_it(base, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    for name in ("data.http_requests", "data.sampling.completion_server", "data.sampling.remote_sampler"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match=r"need the package httpx, .* '\.\[remote\]' to sample on a server"):
        sampler_of(remote("http://127.0.0.1:1/v1"), {"policy": base["base"]}, tmp_path, TOKENIZER)


PROGRAM = """
import sys
from pathlib import Path
import test_remote_stages as tests

chain, store, url = sys.argv[1:]
tests.run_in_store(Path(chain), Path(store), url)
"""


def run_in_store(chain: Path, store: Path, url: str) -> object:
    """The rollouts stage, one request at a time, as a worker runs it."""
    inputs = {"policy": chain / "base", "synthetic": chain / "synthetic"}
    server = remote(url, max_concurrency=1)["server"]
    stage = Stage("rollouts", {"problems": PROBLEMS, **CONFIGS["rollouts"]}, execution={"server": server})
    runners = {"rollouts": lambda config, _, out: rollouts.run(config, inputs, out)}
    return run_stage(stage, Store(store), runners)


@pytest.mark.slow
def test_a_killed_stage_asks_again_only_for_what_was_not_answered(base, tmp_path):
    answered = 10
    with ScriptedServer("mine", lambda number: "hang" if number == answered else None) as server:
        arguments = (os.fspath(base.root), os.fspath(tmp_path / "store"), server.url)
        path = os.pathsep.join((os.fspath(Path(__file__).parent.parent), os.fspath(Path(__file__).parent)))
        environment = {**os.environ, "PYTHONPATH": path}
        killed = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], env=environment)
        deadline = time.monotonic() + 60
        while len(server.bodies) <= answered and time.monotonic() < deadline:
            assert killed.poll() is None
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL

        outcome = run_in_store(base.root, tmp_path / "store", server.url)
        assert isinstance(outcome, Done), outcome
        rows = NUM_PROBLEMS * SAMPLES
        assert len(server.bodies) == rows + 1
        seeds = [body["seed"] for body in server.bodies]
        assert [seed for seed in seeds if seeds.count(seed) > 1] == [seeds[answered]] * 2  # the one that hung
        found = load_rollouts(next((tmp_path / "store" / "rollouts").glob("[!.]*")))
        assert sorted(found["tokens"]) == sorted(by_the_rule(server).values())
        assert outcome.record["files"].keys() == {"rollouts.parquet", "provenance.json", "log.txt"}
        assert len(outcome.record["provenance"]["sampler"]["servers"]) == 1
