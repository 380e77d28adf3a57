"""Rounds: each samples from the policy that the one before trained, with randomness of its own, and trains again."""

from itertools import pairwise

import jax
import pandas as pd
import pytest
from one_run import ALGORITHMS, by_kind
from stage_config import whole
from tiny_chain import PROBLEMS, SYNTHETIC, by_hand, tokens_of

from algorithms import dpo, rft, step_rft
from data import pairs, step_values
from scaling.config.sampling import StepValues
from scaling.config.section import plain
from scaling.config.sweep import Cell
from scaling.model.policy import Policy, load_policy, save_policy
from scaling.model.sizes import model_config
from scaling.model.transformer import architecture
from scaling.planning import recipes
from scaling.pricing.costs import cost
from scaling.stage import Stage, in_order

ITERATED = tuple(name for name in ALGORITHMS if name not in ("sft", "filtered_sft"))  # the others sample
RIGHT = [row["completion"] for row in SYNTHETIC]
ANOTHER = "2 3 = 5 1 ; 5 1 = 6 ; # 6"  # a second right completion of the first problem


def cell_of(algorithm: str, rounds: int, **sections) -> Cell:
    return Cell.of(**{"algorithm": algorithm, "rounds": rounds, **sections})


def chain(cell: Cell, kind: str) -> list[Stage]:
    """The stages of a kind in a run, round 1 first."""
    found = [stage for stage in in_order([recipes.trained_policy(cell, 0)]) if stage.kind == kind]
    assert [stage.config.get("round", 1) for stage in found] == list(range(1, len(found) + 1))
    return found


@pytest.mark.parametrize("algorithm", ITERATED)
def test_every_round_samples_from_the_policy_that_the_round_before_trained(algorithm):
    before, after = (recipes.trained_policy(cell_of(algorithm, rounds), 0) for rounds in (2, 3))
    assert set(in_order([before])) < set(in_order([after]))
    samples_itself = algorithm in ("group_pg", "step_pg", "distill")
    kind, name = (algorithm, "reference") if samples_itself else ("rollouts", "policy")
    sampled = [stage.inputs[name] for stage in chain(cell_of(algorithm, 3), kind)]
    assert sampled == [
        recipes.trained_policy(cell_of(first, k), 0) for first, k in (("sft", 1), (algorithm, 1), (algorithm, 2))
    ]


@pytest.mark.parametrize("algorithm", ["step_dpo", "step_rft"])
def test_step_values_are_those_of_the_policy_that_made_the_rollouts(algorithm):
    for values in chain(cell_of(algorithm, 3), "step_values"):
        assert values.inputs["policy"] == values.inputs["rollouts"].inputs["policy"]


@pytest.mark.parametrize("algorithm", ["dpo", "step_dpo"])
def test_the_reference_of_a_round_is_the_policy_that_it_begins_with(algorithm):
    policies = chain(cell_of(algorithm, 4), "dpo")
    assert len(policies) == 4
    for before, after in pairwise(policies):
        assert after.inputs["reference"] == before


@pytest.mark.parametrize("algorithm", ["rft", "step_rft"])
def test_a_round_of_rft_starts_from_the_base_or_from_the_policy_that_it_sampled(algorithm):
    (first, second), (base, again) = (
        chain(cell_of(algorithm, 2, **{algorithm: {"start": start}}), algorithm) for start in ("sft", "base")
    )
    assert (first.inputs["start"].kind, second.inputs["start"]) == ("sft", first)
    assert base.inputs["start"] == again.inputs["start"] and base.inputs["start"].kind == "pretrain"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_first_round_says_nothing_of_rounds(algorithm):
    for stage in by_kind(cell_of(algorithm, 1)).values():
        assert "round" not in stage.config and stage.config.get("seed", 0) == 0


def test_sft_has_no_rounds():
    assert recipes.evaluation(cell_of("sft", 5), 1) == recipes.evaluation(cell_of("sft", 1), 1)
    assert recipes.evaluation(cell_of("sft", 5), 1).name == recipes.evaluation(cell_of("sft", 1), 1).name


def test_no_two_rounds_of_any_seeds_share_their_randomness():
    seeds = [*range(50), *range(100, 110), 999_999]
    drawn = [recipes.rollouts(cell_of("rft", rounds), seed).config["seed"] for seed in seeds for rounds in range(1, 21)]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= seed < 2**32 for seed in drawn)
    multiples = sorted(rounds * 0x9E3779B9 % 2**32 for rounds in range(20))
    assert (
        min(b - a for a, b in pairwise([*multiples, 2**32])) > 1_000_000
    )  # so no seed below a million reaches another


@pytest.mark.parametrize("algorithm", ITERATED)
def test_many_rounds_are_planned_at_once_and_each_costs_what_the_first_did(algorithm):
    one, twenty = (in_order([recipes.trained_policy(cell_of(algorithm, rounds), 0)]) for rounds in (1, 20))
    shared = [stage for stage in one if stage.kind in ("pretrain", "oracle", "teacher", "sft")]
    assert len(twenty) - len(shared) == 20 * (len(one) - len(shared))

    def flops(stages: tuple[Stage, ...]) -> float:
        return sum(cost(stage).flops for stage in stages if stage not in shared)

    assert flops(twenty) == pytest.approx(20 * flops(one))


def test_pooled_positives_are_those_of_all_rounds_and_cost_as_many():
    cell, pooled = (cell_of("rft", 3, rft={"pool_rounds": flag, "include_synthetic": False}) for flag in (False, True))
    *_, last = chain(pooled, "positives")
    assert [stage.inputs.get("before") for stage in chain(pooled, "positives")] == [
        None,
        *chain(pooled, "positives")[:2],
    ]
    assert last.inputs["before"].inputs["rollouts"] != last.inputs["rollouts"]
    assert cost(chain(pooled, "rft")[2]).flops == 3 * cost(chain(cell, "rft")[2]).flops
    one = cell_of("rft", 1, rft={"pool_rounds": True})
    assert recipes.rft_policy(one, 0) == recipes.rft_policy(cell_of("rft", 1), 0)


def test_the_positives_of_a_later_round_join_those_before_without_repeating_them(tmp_path):
    config = {"problems": PROBLEMS, "positives": {"max_positives": 1, "keep": "random"}, "seed": 0}
    first, second = (tmp_path / name for name in ("first", "second"))
    first.mkdir()
    second.mkdir()
    rft.select_positives(config, by_hand(tmp_path / "a", {0: RIGHT[:1], 1: ["# 5"]}), first)
    inputs = by_hand(tmp_path / "b", {0: [RIGHT[0], ANOTHER], 1: [RIGHT[1]]}) | {"before": first}
    numbers = rft.select_positives({**config, "round": 2}, inputs, second)
    frame = pd.read_parquet(second / "positives.parquet")
    kept = [(problem, list(tokens)) for problem, tokens in zip(frame["problem"], frame["tokens"], strict=True)]
    assert sorted(kept) == sorted([(0, tokens_of(RIGHT[0])), (0, tokens_of(ANOTHER)), (1, tokens_of(RIGHT[1]))])
    assert numbers["num_positives"] == 3


@pytest.fixture
def solved(tmp_path):
    """Rollouts that are all right, and a policy for them."""
    inputs = by_hand(tmp_path, {index: [text] * 2 for index, text in enumerate(RIGHT)})
    shape = model_config("xxs", 18)
    policy = tmp_path / "policy"
    policy.mkdir()
    save_policy(Policy(architecture(shape).init(jax.random.key(0)), shape), policy)
    return inputs | {"policy": policy}


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_later_round_without_negatives_passes_its_policy_on(tmp_path, solved, adaptive):
    values = plain(StepValues(rollouts_per_prefix=2, adaptive=adaptive), {"negatives_per_problem"})
    config = {"problems": PROBLEMS, "step_values": values, "traces": "negatives", "traces_per_problem": 2}
    (tmp_path / "values").mkdir()
    numbers = step_values.run({**config, "seed": 5, "round": 2}, solved, tmp_path / "values")
    assert (numbers["num_traces"], numbers["generation_flops"]) == (0, 0)
    inputs = {**solved, "step_values": tmp_path / "values", "pairs": tmp_path, "reference": solved["policy"]}
    pairing = {"problems": PROBLEMS, "pairs": {"pair_mode": "full_vs_prefix", "pit_rule": "lowest"}, "seed": 5}
    with pytest.raises(ValueError, match="none of 3 problems gives a pair"):
        pairs.run_at_pits(pairing, inputs, tmp_path)
    assert pairs.run_at_pits({**pairing, "round": 2}, inputs, tmp_path)["num_pairs"] == 0
    (tmp_path / "trained").mkdir()
    training = whole({"dpo": {"learning_rate": 1e-3, "epochs": 1, "batch_size": 4}, "seed": 5})
    numbers = dpo.run(training, inputs, tmp_path / "trained")
    assert numbers == {"num_pairs": 0, "num_updates": 0, "num_tokens": 0, "training_flops": 0}
    before, after = (load_policy(folder) for folder in (solved["policy"], tmp_path / "trained"))
    assert after.config == before.config
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), after.params, before.params))


def test_a_later_round_of_dpo_without_negatives_is_as_empty(tmp_path, solved):
    config = {"problems": PROBLEMS, "pairs": {"pairing": "random", "pairs_per_problem": 2}, "seed": 0}
    with pytest.raises(ValueError, match="none of 3 problems gives a pair"):
        pairs.run(config, solved, tmp_path)
    assert pairs.run({**config, "round": 3}, solved, tmp_path)["num_pairs"] == 0


@pytest.mark.parametrize(("stage", "kind"), [(rft, "rft"), (step_rft, "step_rft")])
def test_a_later_round_with_nothing_to_learn_passes_the_sampled_policy_on_but_not_the_base(
    tmp_path, solved, stage, kind
):
    empty = pd.DataFrame({"problem": [], "prompt": [], "tokens": [], "mask": []})
    for name in ("positives", "good_steps"):
        empty.to_parquet(tmp_path / f"{name}.parquet")
    inputs = {**solved, "start": solved["policy"], "positives": tmp_path, "good_steps": tmp_path}
    (tmp_path / "out").mkdir()
    config = whole({"problems": PROBLEMS, kind: {"start": "sft", "include_synthetic": False}, "seed": 0})
    numbers = stage.run({**config, "round": 2}, inputs, tmp_path / "out")
    assert (numbers["num_sequences"], numbers["num_updates"]) == (0, 0)
    for changes in ({}, {kind: {**config[kind], "start": "base"}, "round": 2}):
        with pytest.raises(ValueError, match=f"{kind}: "):
            stage.run({**config, **changes}, inputs, tmp_path / "out")
