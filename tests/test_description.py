"""What completions look like: known answers by hand, and that misconceptions are the base text's own wrong values."""

import numpy as np
import pytest
from tiny_chain import SETTINGS

from algorithms.step_rft import num_wrong_kept
from data.description import describe
from data.problems import modular_sum, star_graph
from data.records import Check, Problem, StepCheck
from scaling.config.problems import StarGraph
from scaling.config.sweep import Cell
from scaling.planning import recipes

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
