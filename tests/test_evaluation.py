"""Evaluation: one outcome a problem, pass@k against brute force, independence of what else is measured; and what
completions look like: known answers by hand, and that misconceptions are the base text's own wrong values.
"""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from stage_config import whole
from tiny_chain import PROBLEMS, SETTINGS, TOKENIZER, Chain

from algorithms.step_rft import num_wrong_kept
from data import evaluation
from data.evaluation import describe
from data.problems import ledger, modular_sum, star_graph
from data.records import Check, Problem, StepCheck, load_problems
from data.sets import problem_sets
from scaling.config.problems import Ledger, StarGraph, problems_of
from scaling.config.sweep import Cell
from scaling.model.policy import load_policy
from scaling.model.sampling import row_keys, sample
from scaling.planning import recipes

NUM_TEST, NUM_VALIDATION, SAMPLES = 12, 5, 5


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The tiny SFT policy and fixed problems; the test problems include some that it was trained on, so that it is
    sometimes right.
    """
    chain = Chain(tmp_path_factory.mktemp("chain"), "sft")
    folder = tmp_path_factory.mktemp("problems")
    config = {"problems": {**PROBLEMS, "num_validation": NUM_VALIDATION, "num_test": 4}}
    problem_sets.run(config, {}, folder)
    trained = (chain["synthetic"] / "synthetic.jsonl").read_text()
    with (folder / "test.jsonl").open("a") as file:
        file.write(trained)
    return {"policy": chain["sft"], "problems": folder}


def measure(out, inputs, split="test", seed=0, **settings):
    """The outcomes and the numbers."""
    out.mkdir()
    chosen = {"samples_per_problem": SAMPLES, "pass_at": [1, 2, 5], **settings}
    config = whole({"problems": PROBLEMS, "evaluation": chosen, "split": split, "seed": seed})
    numbers = evaluation.run(config, inputs, out)
    return pd.read_parquet(out / "outcomes.parquet"), numbers


@pytest.fixture(scope="module")
def measured(inputs, tmp_path_factory):
    return measure(tmp_path_factory.mktemp("evaluation") / "out", inputs)


def test_outcomes_have_one_row_a_problem_in_its_order(inputs, measured):
    frame, _ = measured
    assert list(frame.columns) == ["problem", "wrong", "error_kind", "num_correct", "num_samples"]
    assert frame["problem"].tolist() == [problem.key for problem in load_problems(inputs["problems"], "test")]
    assert len(frame) == NUM_TEST and set(frame["wrong"]) <= {0, 1} and frame["wrong"].dtype == np.int8
    assert set(frame["error_kind"]) <= {"none", "fact", "procedure"}
    assert frame["num_correct"].between(0, SAMPLES).all() and (frame["num_samples"] == SAMPLES).all()


def test_the_policy_is_right_about_some_problems_and_wrong_about_others(measured):
    frame, _ = measured
    assert set(frame["wrong"]) == {0, 1} and 0 < frame["num_correct"].sum() < NUM_TEST * SAMPLES


def test_the_numbers_are_those_of_the_outcomes(measured):
    frame, numbers = measured
    assert numbers["error"] == frame["wrong"].mean() and numbers["num_problems"] == NUM_TEST
    assert numbers["procedure_error_fraction"] == (frame["error_kind"] == "procedure").mean()
    assert numbers["evaluation_flops"] > 0
    expected = {"error", "num_problems", "procedure_error_fraction", "pass_at_1", "pass_at_2", "pass_at_5"}
    assert numbers.keys() == expected | {"truncated_fraction", "evaluation_flops"}


def test_under_a_limit_of_tokens_what_ends_later_is_cut_and_counted(inputs, measured, tmp_path):
    policy = load_policy(inputs["policy"])
    prompts = [TOKENIZER.encode_prompt(problem.prompt) for problem in load_problems(inputs["problems"], "test")]
    keys = row_keys(evaluation.root_key(0, evaluation.EVALUATION), np.zeros((NUM_TEST, 2), np.uint32))
    limit = modular_sum.max_completion_words(SETTINGS) + 1
    greedy = sample(policy.params, policy.config, prompts, keys, [limit] * NUM_TEST, 0.0).completions
    assert measured[1]["truncated_fraction"] == np.mean([tokens[-1] != 2 for tokens in greedy])
    shorter = int(np.median([len(tokens) for tokens in greedy]))
    frame, numbers = measure(tmp_path / "out", inputs, samples_per_problem=0, pass_at=[], max_new_tokens=shorter)
    ended = np.array([tokens[-1] == 2 and len(tokens) <= shorter for tokens in greedy])
    assert numbers["truncated_fraction"] == np.mean(~ended)
    assert frame["wrong"].tolist() == np.where(ended, measured[0]["wrong"], 1).tolist()


def test_pass_at_k_is_the_share_of_k_subsets_of_the_samples_with_a_correct_one(measured):
    frame, numbers = measured
    for k in (1, 2, 5):
        shares = [
            np.mean([any(subset) for subset in combinations([True] * c + [False] * (SAMPLES - c), k)])
            for c in frame["num_correct"]
        ]
        assert numbers[f"pass_at_{k}"] == pytest.approx(np.mean(shares))


def test_wrong_and_num_correct_are_what_the_sampler_and_the_verifier_say(inputs, measured):
    frame, _ = measured
    policy = load_policy(inputs["policy"])
    problems = load_problems(inputs["problems"], "test")
    limit = modular_sum.max_completion_words(SETTINGS) + 1

    def rewards(ids, temperature):
        prompts = [TOKENIZER.encode_prompt(problems[problem].prompt) for problem, _ in ids]
        keys = row_keys(evaluation.root_key(0, evaluation.EVALUATION), np.array(ids, np.uint32))
        sampled = sample(policy.params, policy.config, prompts, keys, [limit] * len(ids), temperature)
        return [
            modular_sum.check(SETTINGS, problems[problem], TOKENIZER.decode(tokens)).reward
            for (problem, _), tokens in zip(ids, sampled.completions, strict=True)
        ]

    assert frame["wrong"].tolist() == [1 - reward for reward in rewards([(n, 0) for n in range(NUM_TEST)], 0.0)]
    drawn = rewards([(n, number) for n in range(NUM_TEST) for number in range(SAMPLES)], 1.0)
    assert frame["num_correct"].tolist() == np.reshape(drawn, (NUM_TEST, SAMPLES)).sum(axis=1).tolist()


def test_without_samples_only_the_greedy_outcome_is_measured(inputs, measured, tmp_path):
    frame, numbers = measure(tmp_path / "greedy", inputs, samples_per_problem=0, pass_at=[])
    pd.testing.assert_frame_equal(frame, measured[0][["problem", "wrong", "error_kind"]])
    assert numbers["error"] == measured[1]["error"] and not any(name.startswith("pass_at") for name in numbers)


def test_describing_the_samples_adds_numbers_and_changes_none(inputs, measured, tmp_path):
    frame, numbers = measure(tmp_path / "described", inputs, describe=True)
    pd.testing.assert_frame_equal(frame, measured[0])
    assert {name: numbers[name] for name in measured[1]} == measured[1]
    added = numbers.keys() - measured[1].keys()
    assert added == {"spurious_fraction", "wrong_fact_fraction", "diversity", "distinct_fraction"}
    assert numbers["diversity"] == pytest.approx(numbers["distinct_fraction"] * frame["num_correct"].mean())


def test_there_is_nothing_to_describe_without_samples(inputs, tmp_path):
    with pytest.raises(ValueError, match=r"describe is true, but samples_per_problem is 0.*raise samples_per_problem"):
        measure(tmp_path / "out", inputs, samples_per_problem=0, pass_at=[], describe=True)


def test_the_seed_changes_the_samples_and_not_the_greedy_outcome(inputs, measured, tmp_path):
    frame, _ = measure(tmp_path / "other", inputs, seed=1)
    pd.testing.assert_frame_equal(frame[["problem", "wrong"]], measured[0][["problem", "wrong"]])
    assert frame["num_correct"].tolist() != measured[0]["num_correct"].tolist()


def test_the_split_chooses_the_problems(inputs, tmp_path):
    frame, numbers = measure(tmp_path / "out", inputs, "validation", samples_per_problem=0, pass_at=[])
    assert frame["problem"].tolist() == [problem.key for problem in load_problems(inputs["problems"], "validation")]
    assert numbers["num_problems"] == NUM_VALIDATION


def test_pass_at_more_than_there_are_samples_is_an_error_with_its_cure(inputs, tmp_path):
    with pytest.raises(ValueError, match=r"k = 9, but samples_per_problem is 5.*raise samples_per_problem"):
        measure(tmp_path / "out", inputs, pass_at=[9])


def test_problems_that_are_cut_short_are_an_error_that_names_the_line(inputs, tmp_path):
    (tmp_path / "test.jsonl").write_text((inputs["problems"] / "test.jsonl").read_text()[:-30])
    with pytest.raises(ValueError, match=r"test\.jsonl, line 12 .*cut short"):
        measure(tmp_path / "out", {**inputs, "problems": tmp_path})


# What completions look like.

PROBLEM = Problem("1 2 3 ?", "6")
RIGHT, OTHER = "1 2 = 3 3 ; 3 3 = 6 ; # 6", "2 3 = 5 1 ; 5 1 = 6 ; # 6"
SPURIOUS, WRONG = "1 2 = 4 3 ; 4 3 = 6 ; # 6", "1 2 = 3 3 ; 3 3 = 7 ; # 7"


def checks(*texts):
    return [modular_sum.check(SETTINGS, PROBLEM, text) for text in texts]


def test_the_numbers_of_two_problems_by_hand():
    numbers = describe(SETTINGS, checks(RIGHT, OTHER, RIGHT, WRONG, SPURIOUS, WRONG, WRONG, WRONG), 4)
    assert numbers == {
        "wrong_fact_fraction": (1 + 2 + 1 + 1 + 1) / 24,  # eight completions of three steps
        "spurious_fraction": 1 / 4,  # of four right ones
        "diversity": (2 + 1) / 2,  # different right ones of either problem
        "distinct_fraction": 3 / 4,
    }


def test_what_has_no_denominator_is_absent():
    assert describe(SETTINGS, checks(WRONG), 1).keys() == {"wrong_fact_fraction", "diversity"}
    assert "misconception_fraction" not in describe(SETTINGS, checks(RIGHT), 1, base_seed=0)


def test_nothing_is_said_of_steps_that_a_verifier_does_not_judge():
    class Unjudged(StepCheck):
        correct = None

    check = Check(1.0, "6", (Unjudged("half of 12 is 6", True, True),))
    assert describe(SETTINGS, [check, check], 2) == {"diversity": 1.0, "distinct_fraction": 0.5}
    assert num_wrong_kept([True], check.steps) is None
    assert num_wrong_kept([True, False], checks(WRONG)[0].steps) is None  # cut otherwise than the three steps judged
    assert num_wrong_kept([True, True, False], checks(WRONG)[0].steps) == 1


def test_misconceptions_are_the_wrong_values_of_the_base_text_and_no_others():
    facts = modular_sum.web_facts(SETTINGS, seed=7)
    own = int(facts.wrong[1, 2])
    another = next(value for value in range(SETTINGS.modulus) if value not in (own, 3))
    texts = [f"1 2 = {value} 3 ; # {value}" for value in (own, another, another, 3)]
    assert describe(SETTINGS, checks(*texts), 1, base_seed=7)["misconception_fraction"] == pytest.approx(1 / 3)


def test_all_wrong_facts_of_the_base_text_are_misconceptions():
    facts = modular_sum.web_facts(SETTINGS, seed=3)
    rng = np.random.default_rng(0)
    written = [modular_sum.web_text(SETTINGS, rng, facts) for _ in range(40)]
    found = [modular_sum.check(SETTINGS, Problem(prompt, "0"), text) for prompt, text in written]
    numbers = describe(SETTINGS, found, 4, base_seed=3)
    assert numbers["misconception_fraction"] == 1.0 and numbers["wrong_fact_fraction"] > 0.1
    assert describe(SETTINGS, found, 4, base_seed=4)["misconception_fraction"] < 0.5


def test_the_wrong_values_do_not_depend_on_how_confident_the_base_text_is():
    sure = SETTINGS.model_copy(update={"web_confidence": (9.0, 0.5)})
    assert (modular_sum.web_facts(sure, 0).wrong == modular_sum.web_facts(SETTINGS, 0).wrong).all()


def test_misconceptions_are_found_with_the_config_that_the_recipe_gives_the_stage():
    """It lacks web_confidence, so that policies of one base text share their evaluations' digests."""
    config = recipes.evaluation(Cell.of(**{"evaluation": {"describe": True}}), 0).config
    assert "web_confidence" not in config["problems"]
    settings = problems_of(config)
    own = int(modular_sum.web_facts(settings, config["web_seed"]).wrong[1, 2])
    found = [modular_sum.check(settings, Problem("1 2 3 4 ?", "10"), f"1 2 = {own} 3 4 ;")]
    assert describe(settings, found, 1, config["web_seed"])["misconception_fraction"] == 1.0


def test_a_family_without_facts_of_its_own_has_no_misconceptions():
    settings = StarGraph()
    check = star_graph.check(settings, star_graph.draw(settings, np.random.default_rng(0)), "1 2 3 4 5")
    assert describe(settings, [check], 1, base_seed=0).keys() == {"wrong_fact_fraction", "diversity"}


def test_only_a_base_policy_that_read_web_text_has_misconceptions_and_only_describing_changes_the_stage():
    cell = Cell.of(**{"evaluation": {"describe": True}, "pretrain": {"seed": 5}})
    described = recipes.evaluation(cell, 0)
    assert described.config["web_seed"] == 5 and described.config["evaluation"]["describe"] is True
    plain = recipes.evaluation(Cell.of(), 0)
    assert "describe" not in plain.config["evaluation"] and "web_seed" not in plain.config
    assert plain == recipes.evaluation(Cell.of(**{"evaluation": {"describe": False}}), 0)
    random = recipes.evaluation(Cell.of(**{"evaluation": {"describe": True}, "policy": {"base": "random"}}), 0)
    assert "web_seed" not in random.config


def test_steps_that_the_answer_does_not_need_are_described_and_spurious_in_right_completions():
    settings = Ledger(modulus=23)
    prompt = "Ana has 7 . Bo has 12 . Cy is Ana plus Bo . Gus is Bo plus Ana . how many has Cy ?"
    aside, right = "Gus : Bo 12 plus Ana 7 = {} ; ", "Cy : Ana 7 plus Bo 12 = 19 ; # 19"
    found = [
        ledger.check(settings, Problem(prompt, "19"), text)
        for text in (aside.format(19) + right, aside.format(3) + right, right)
    ]
    numbers = describe(settings, found, 3)
    assert {name: numbers[name] for name in ("unneeded_fraction", "spurious_fraction", "wrong_fact_fraction")} == {
        "unneeded_fraction": 2 / 8,
        "spurious_fraction": 2 / 3,
        "wrong_fact_fraction": 1 / 8,
    }
    assert "unneeded_fraction" not in describe(settings, found[2:], 1)
