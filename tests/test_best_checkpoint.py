"""The best of a training run's policies: which snapshots there are, that a kill changes none, and which one is kept."""

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from interrupted import looking_every
from stage_config import whole
from tiny_chain import PROBLEMS, Chain

from algorithms import sft
from data import best_checkpoint, evaluation
from data.records import read_jsonl
from data.sets import problem_sets
from scaling.config.sweep import Cell
from scaling.copies import copying_to
from scaling.kinds import kind_of, loaded
from scaling.model.policy import PARAMS_FILE, load_policy, passed_on
from scaling.planning import recipes
from scaling.pricing.costs import cost
from scaling.stage import CHECKPOINTS, Stage, in_order
from scaling.training import loop
from scaling.training.snapshots import evenly

SFT = {"learning_rate": 1e-2, "epochs": 20, "batch_size": 8}  # 20 updates
AMONG = 4


def test_snapshots_are_evenly_spaced_and_leave_the_last_policy_out():
    assert evenly(4, 20) == {5, 10, 15} and evenly(2, 7) == {4}
    assert evenly(8, 3) == {1, 2} and evenly(4, 1) == evenly(1, 9) == evenly(0, 9) == set()


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    chain = Chain(tmp_path_factory.mktemp("chain"), "base")
    (chain.root / "problems").mkdir()
    problem_sets.run({"problems": {**PROBLEMS, "num_validation": 40, "num_test": 4}}, {}, chain.root / "problems")
    (chain.root / "trained").mkdir()
    train(chain, chain.root / "trained")
    return chain


def train(chain, out: Path, snapshots=AMONG):
    config = whole({"problems": PROBLEMS, "sft": SFT, "seed": 0}) | {"snapshots": snapshots}
    return sft.run(config, chain.inputs(base="base", synthetic="synthetic"), out)


def choose(chain, out: Path, trained="trained"):
    out.mkdir()
    config = {"problems": PROBLEMS, "evaluation": {}}
    return best_checkpoint.run(config, chain.inputs(policy=trained, problems="problems"), out)


def test_the_policy_with_the_lowest_validation_error_is_kept_and_its_search_is_counted(chain, tmp_path):
    numbers = choose(chain, tmp_path / "best")
    rows = read_jsonl(tmp_path / "best/checkpoints.jsonl")
    assert [row["update"] for row in rows] == [5, 10, 15, 20]
    assert len({row["error"] for row in rows}) > 1
    best = min(rows, key=lambda row: row["error"])
    assert numbers["num_updates"] == best["update"] and numbers["checkpoint_fraction"] == best["update"] / 20
    folder = best_checkpoint.policies_of(chain["trained"])[best["update"]]
    assert (tmp_path / "best" / PARAMS_FILE).read_bytes() == (folder / PARAMS_FILE).read_bytes()
    (tmp_path / "again").mkdir()
    settings = {"samples_per_problem": 0, "pass_at": [], "temperature": 1.0, "top_p": 1.0}
    config = {"problems": PROBLEMS, "evaluation": settings, "split": "validation", "seed": 0}
    inputs = {"policy": tmp_path / "best", "problems": chain["problems"]}
    judged = evaluation.run(config, inputs, tmp_path / "again")
    assert judged["error"] == best["error"] == numbers["validation_error"]
    assert numbers["num_rollouts"] == 4 * 40 and numbers["generation_flops"] > 3 * judged["evaluation_flops"]
    assert loaded(kind_of("best_checkpoint").verified)(Stage("best_checkpoint", {}), numbers) == 160


def test_the_earliest_of_equal_policies_is_kept(chain, tmp_path, monkeypatch):
    shutil.copytree(chain["trained"], chain.root / "equal")
    for folder in best_checkpoint.policies_of(chain["equal"]).values():
        shutil.copyfile(chain["trained"] / PARAMS_FILE, folder / PARAMS_FILE)
    assert choose(chain, tmp_path / "best", "equal")["num_updates"] == 5


def test_a_policy_without_training_is_kept_and_one_without_snapshots_is_refused(chain, tmp_path):
    (chain.root / "passed").mkdir()
    passed_on(load_policy(chain["base"]), chain.root / "passed")
    numbers = choose(chain, tmp_path / "passed", "passed")
    assert numbers["num_updates"] == 0 and numbers["checkpoint_fraction"] == 1
    (chain.root / "plain").mkdir()
    train(chain, chain.root / "plain", snapshots=0)
    assert not (chain["plain"] / "snapshots").exists()
    with pytest.raises(ValueError, match="plain made 20 updates and kept no snapshots"):
        choose(chain, tmp_path / "plain", "plain")


def test_a_killed_stage_ends_with_the_snapshots_of_the_unbroken_one(chain, tmp_path, monkeypatch):
    looking_every(monkeypatch, 100)  # each look brings a checkpoint
    real, out = loop.settings_at, tmp_path / "out"
    out.mkdir()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def dies(*arguments):
            if arguments[-1] == 12:
                raise KeyboardInterrupt
            return real(*arguments)

        patch.setattr(loop, "settings_at", dies)
        train(chain, out)
    for path in out.iterdir():  # as the store does before a stage starts again
        if path.name != CHECKPOINTS:
            path.unlink()
    train(chain, out)
    for update, folder in best_checkpoint.policies_of(chain["trained"]).items():
        found = best_checkpoint.policies_of(out)[update]
        assert (found / PARAMS_FILE).read_bytes() == (folder / PARAMS_FILE).read_bytes(), update


def test_a_stage_that_goes_on_on_another_node_has_the_snapshots_from_before(
    chain, tmp_path, monkeypatch, memory_bucket, prompt
):
    looking_every(monkeypatch, 100)
    real = loop.settings_at
    with copying_to(memory_bucket[0]):
        for node, at in (("one", 12), ("two", 100)):
            (tmp_path / node).mkdir()
            with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):

                def dies(*arguments, at=at):
                    if arguments[-1] == at:
                        raise KeyboardInterrupt
                    return real(*arguments)

                patch.setattr(loop, "settings_at", dies)
                train(chain, tmp_path / node)
    found, expected = (best_checkpoint.policies_of(out) for out in (tmp_path / "two", chain["trained"]))
    assert found.keys() == expected.keys()
    for update, folder in expected.items():
        assert (found[update] / PARAMS_FILE).read_bytes() == (folder / PARAMS_FILE).read_bytes(), update


def test_snapshots_survive_a_kill_after_the_last_of_them(chain, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    train(chain, out)
    for path in out.iterdir():  # as the store does before a stage starts again
        if path.name != CHECKPOINTS:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    train(chain, out)
    assert best_checkpoint.policies_of(out).keys() == best_checkpoint.policies_of(chain["trained"]).keys()


def test_on_policy_one_iteration_of_several_updates_has_no_snapshots_to_miss(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 1, "update": 4}\n')
    assert best_checkpoint.policies_of(tmp_path) == {4: tmp_path}
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 2, "update": 8}\n')
    with pytest.raises(ValueError, match="made 8 updates and kept no snapshots"):
        best_checkpoint.policies_of(tmp_path)


# The plan.


def test_every_learner_and_what_it_starts_from_is_selected_alike():
    for algorithm in ("sft", "filtered_sft", "rft", "dpo", "kto", "awr", "group_pg", "step_pg", "distill"):
        cell = Cell.of(**{"algorithm": algorithm, "checkpoint": {"keep": "best", "among": 5}, "rounds": 2})
        stages = in_order([recipes.evaluation(cell, 0)])
        chosen = [stage for stage in stages if stage.kind == "best_checkpoint"]
        trained = [stage for stage in stages if "snapshots" in stage.config]
        assert {stage.inputs["policy"] for stage in chosen} == set(trained) and len(trained) >= 1
        assert all(stage.config["snapshots"] == 5 for stage in trained)
        assert recipes.evaluation(cell, 0).inputs["policy"].kind == "best_checkpoint"
        used = {parent for stage in stages if stage.kind != "best_checkpoint" for parent in stage.inputs.values()}
        assert not used & set(trained), algorithm


def test_the_last_policy_needs_no_stage_and_changes_no_digest():
    default, named = Cell.of(), Cell.of(**{"checkpoint": {"keep": "last", "among": 3}})
    assert recipes.evaluation(default, 0).digest == recipes.evaluation(named, 0).digest
    assert all(stage.kind != "best_checkpoint" for stage in in_order([recipes.evaluation(default, 0)]))


def test_the_comparison_costs_a_greedy_completion_of_each_validation_problem_by_each_policy():
    def priced(among, num_validation):
        problems = {"family": "modular_sum", "num_validation": num_validation}
        cell = Cell.of(**{"checkpoint": {"keep": "best", "among": among}, "problems": problems})
        return cost(recipes.trained_policy(cell, 0)).generation_flops

    assert 0 < priced(4, 10) * 6 == pytest.approx(priced(8, 30))
