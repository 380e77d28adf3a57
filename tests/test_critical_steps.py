"""Critical steps: fixed wrong traces, the chance of their first pits, and the stages that measure them."""

import jax
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from stage_config import whole
from tiny_chain import PROBLEMS, TOKENIZER, Chain

from data import critical_steps, step_values
from data.records import read_jsonl, read_problems
from data.rollout_tables import load_step_values, load_verified
from data.sets import problem_sets
from scaling.config.algorithms import algorithm_names
from scaling.config.sweep import Cell
from scaling.model.policy import load_policy
from scaling.model.transformer import architecture
from scaling.planning import recipes
from scaling.planning.recipes import critical_steps as measured
from scaling.stage import in_order

ASKED = {"problems": 5, "traces": 2, "rollouts_per_prefix": 3}
NUM_TEST = 8


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Every stage from the tiny SFT policy on, run once: name -> directory, and their numbers."""
    root = tmp_path_factory.mktemp("critical")
    chain = Chain(root, "sft")
    folders = {name: root / name for name in ("problems", "traces", "pits", "values", "critical")}
    for folder in folders.values():
        folder.mkdir()
    problem_sets.run({"problems": {**PROBLEMS, "num_validation": 1, "num_test": NUM_TEST}}, {}, folders["problems"])
    rollouts = {"samples_per_problem": 6}
    config = whole(
        {"problems": PROBLEMS, "rollouts": rollouts, "critical_steps": {"problems": 5, "traces": 2}, "seed": 7}
    )
    inputs = {"policy": chain["sft"], "problems": folders["problems"]}
    numbers = {"traces": critical_steps.select_traces(config, inputs, folders["traces"])}
    shared = dict.fromkeys(("synthetic", "rollouts", "verification"), folders["traces"])
    for seed, name in ((8, "pits"), (9, "values")):
        config = whole(
            {
                "problems": PROBLEMS,
                "step_values": {"rollouts_per_prefix": 3},
                "traces": "negatives",
                "traces_per_problem": 2,
                "seed": seed,
            }
        )
        numbers[name] = step_values.run(config, {**shared, "policy": chain["sft"]}, folders[name])
    inputs = {"policy": chain["sft"], **{name: folders[name] for name in ("traces", "pits", "values")}}
    numbers["critical"] = critical_steps.run({"problems": PROBLEMS}, inputs, folders["critical"])
    return {**folders, "policy": chain["sft"]}, numbers


def test_traces_are_different_wrong_completions_of_the_first_test_problems(stages):
    folders, numbers = stages
    verified = load_verified(folders["traces"], folders["traces"])
    assert (verified["reward"] == 0.0).all() and len(verified) == numbers["traces"]["num_traces"] > 2
    assert not verified.assign(words=verified["tokens"].map(tuple)).duplicated(["problem", "words"]).any()
    assert verified.groupby("problem").size().max() == 2
    test = read_problems(folders["problems"] / "test.jsonl")
    assert read_problems(folders["traces"] / "synthetic.jsonl") == test[:5]


def test_the_pits_and_the_values_are_of_the_same_traces_and_of_other_continuations(stages):
    folders, _ = stages
    verified = load_verified(folders["traces"], folders["traces"])
    pits, values = (load_step_values(folders[name], verified) for name in ("pits", "values"))
    assert pits["tokens"].tolist() == values["tokens"].tolist() == verified["tokens"].tolist()
    first, second = (pd.read_parquet(folders[name] / "continuations.parquet") for name in ("pits", "values"))
    assert [list(tokens) for tokens in first["tokens"]] != [list(tokens) for tokens in second["tokens"]]


def test_q_is_that_of_the_policy_in_question_and_the_pit_that_of_the_sft_policy(stages):
    folders, numbers = stages
    verified = load_verified(folders["traces"], folders["traces"])
    table = pd.read_parquet(folders["critical"] / "critical_steps.parquet")
    pits, values = (load_step_values(folders[name], verified) for name in ("pits", "values"))
    expected = [q for q_values in values["q_values"] for q in q_values[:-1]]
    assert table["q_value"].tolist() == expected and numbers["critical"]["mean_q_value"] == np.mean(expected)
    problems = read_problems(folders["traces"] / "synthetic.jsonl")
    for trace in pits.itertuples(index=False):
        rows = table[(table["problem"] == problems[trace.problem].key) & (table["sample"] == trace.sample)]
        assert rows["step"].tolist() == list(range(len(trace.q_values) - 1))
        assert (rows["pit"] == trace.q_values.index(0.0)).all()


def test_the_chance_of_the_pit_is_the_product_of_its_tokens_chances_where_it_stands(stages):
    folders, _ = stages
    policy = load_policy(folders["policy"])
    verified = load_verified(folders["traces"], folders["traces"])
    prompts = [row["prompt"] for row in read_jsonl(folders["traces"] / "synthetic.jsonl")]
    table = pd.read_parquet(folders["critical"] / "critical_steps.parquet").drop_duplicates(["problem", "sample"])
    chances = iter(table["pit_probability"])
    for trace in load_step_values(folders["pits"], verified).itertuples(index=False):
        if len(trace.q_values) == 1:
            continue  # nothing to continue, so no row
        pit = trace.q_values.index(0.0)
        start, end = [0, *trace.step_ends][pit : pit + 2]
        tokens = TOKENIZER.encode_prompt(prompts[trace.problem]) + trace.tokens[:end]
        logits = architecture(policy.config).apply(policy.params, np.array([tokens], np.int32))[0]
        log_probs = np.asarray(jax.nn.log_softmax(logits))
        chosen = range(len(tokens) - (end - start), len(tokens))
        expected = np.exp(sum(log_probs[at - 1, tokens[at]] for at in chosen))
        assert next(chances) == pytest.approx(expected, rel=1e-4)


def test_traces_without_a_wrong_one_are_an_error_with_its_cure(stages, tmp_path, monkeypatch):
    folders, _ = stages
    monkeypatch.setattr(critical_steps, "verdicts", lambda *_: pd.DataFrame({"reward": [1.0] * 5}))
    config = whole({"problems": PROBLEMS, "rollouts": {"samples_per_problem": 1}, "critical_steps": ASKED, "seed": 0})
    with pytest.raises(
        ValueError, match=r"none of 5 completions of 5 test problems is wrong.*critical_steps\.problems"
    ):
        critical_steps.select_traces(config, folders, tmp_path)


def cell_of(algorithm: str, **evaluation) -> Cell:
    return Cell.of(**{"algorithm": algorithm, "evaluation": {"critical_steps": ASKED, **evaluation}})


def test_all_algorithms_continue_the_same_traces_with_the_same_pits_and_randomness():
    by_algorithm = {name: measured(cell_of(name), 3) for name in algorithm_names()}
    for name in ("traces", "pits"):
        assert len({stage.inputs[name] for stage in by_algorithm.values()}) == 1
    seeds = {stage.inputs["values"].config["seed"] for stage in by_algorithm.values()}
    assert len(seeds) == 1 and by_algorithm["sft"].inputs["pits"].config["seed"] not in seeds
    for name, stage in by_algorithm.items():
        trained = recipes.trained_policy(cell_of(name), 3)
        assert stage.inputs["policy"] == stage.inputs["values"].inputs["policy"] == trained
    assert len({stage.digest for stage in by_algorithm.values()}) == len(by_algorithm)


def test_the_traces_share_no_seed_with_any_round():
    uses = [recipes.derived_seed(seed, use) for seed in range(20) for use in (*range(20), 100, 101, 102)]
    assert len(set(uses)) == len(uses)


def test_critical_steps_change_no_other_stage_and_are_measured_only_where_asked_for():
    assert measured(Cell.of(), 0) is None
    assert recipes.evaluation(cell_of("rft"), 0) == recipes.evaluation(Cell.of(algorithm="rft"), 0)
    new = {stage.kind for stage in in_order([measured(cell_of("sft"), 0)])} - {
        stage.kind for stage in in_order([recipes.evaluation(Cell.of(), 0)])
    }
    assert new == {"critical_traces", "step_values", "critical_steps"}


def test_more_traces_than_test_problems_are_an_error_with_its_cure():
    with pytest.raises(ValidationError, match=r"critical_steps\.problems is 5, but problems\.num_test is 4"):
        Cell.of(**{"evaluation": {"critical_steps": ASKED}, "problems": {"family": "modular_sum", "num_test": 4}})
