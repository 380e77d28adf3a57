"""Verifiers that let wrong answers pass: which, how often, and in which stages."""

from dataclasses import replace

import numpy as np
import pytest

from data.problems.families import family_of
from data.problems.modular_sum import teacher_offsets
from data.records import Problem
from data.rewards import reward, verifier_of
from scaling.config.problems import ModularSum
from scaling.config.sampling import Verifier
from scaling.config.sweep import Cell
from scaling.planning import recipes

SUMS = ModularSum(modulus=59, operands=3)
PROBLEM = Problem("3 5 7 ?", "15")
FAMILY = family_of(SUMS)


def judged(verifier, last, first="8"):
    completion = f"3 5 = {first} 7 ; {first} 7 = {last} ; # {last}"
    check = FAMILY.check(SUMS, PROBLEM, completion)
    return reward(verifier, PROBLEM, completion, check), check.spurious_steps, check


def test_classes_accept_what_is_equal_modulo_them():
    accepted = [last for last in range(59) if judged(Verifier(classes=8), last)[0]]
    assert accepted == [7, 15, 23, 31, 39, 47, 55]
    assert [last for last in range(59) if judged(Verifier(), last)[0]] == [15]


def test_a_last_digit_decides_on_sets_in_plain_language():
    check = FAMILY.check(SUMS, PROBLEM, "# 15")
    for answer, right, equal in (
        ("1,205", "15", True),
        ("-5", "15", True),  # modulo 10
        ("14", "15", False),
        ("3/5", "15", False),
        ("x", "15", False),
    ):
        shown = type(check)(0.0, answer, check.steps)
        assert reward(Verifier(classes=10), Problem("?", right), "text", shown) == float(equal), answer


def test_a_completion_without_an_answer_never_passes():
    verifier = Verifier(classes=2, false_positive=1.0)
    check = FAMILY.check(SUMS, PROBLEM, "3 5 = 8 7 ;")
    assert check.answer is None and reward(verifier, PROBLEM, "3 5 = 8 7 ;", check) == 0.0


def test_false_positives_have_their_rate_and_are_the_same_each_time():
    verifier = Verifier(false_positive=0.3)
    texts = [f"3 5 = {first} 7 ; {first} 7 = {last} ; # {last}" for first in range(40) for last in range(20, 59)]
    found = [reward(verifier, PROBLEM, text, FAMILY.check(SUMS, PROBLEM, text)) for text in texts]
    assert abs(np.mean(found) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / len(texts))
    assert found == [reward(verifier, PROBLEM, text, FAMILY.check(SUMS, PROBLEM, text)) for text in texts]


def test_wrong_steps_of_an_accepted_completion_are_spurious():
    given, _, check = judged(Verifier(classes=8), 23)
    assert (given, check.reward, replace(check, reward=given).spurious_steps, check.spurious_steps) == (1.0, 0.0, 1, 0)


def test_a_stage_without_the_key_is_exact():
    assert verifier_of({}).is_exact and verifier_of({"verifier": {"classes": 3, "false_positive": 0.0}}).classes == 3


def test_the_verifier_judges_rollouts_and_step_values_and_never_an_evaluation():
    exact, coarse = Cell.of(algorithm="step_dpo"), Cell.of(algorithm="step_dpo", verifier={"classes": 3})
    for name in ("verification", "step_values"):
        one, other = (stage_of(cell, name) for cell in (exact, coarse))
        assert "verifier" not in one.config and other.config["verifier"]["classes"] == 3
    assert "verifier" not in recipes.evaluation(coarse, 0).config
    assert recipes.sft_policy(exact, 0).digest == recipes.sft_policy(coarse, 0).digest
    assert recipes.rollouts(exact, 0).digest == recipes.rollouts(coarse, 0).digest


def stage_of(cell, kind):
    if kind == "verification":
        return recipes.verification(cell, 0)
    return recipes.step_values(cell, 0, "negatives", 2)


def test_rollouts_of_the_base_policy_leave_the_learners_start():
    cell = Cell.of(algorithm="dpo", rollouts={"policy": "base"})
    assert recipes.rollouts(cell, 0).inputs["policy"].kind == "pretrain"
    assert recipes.dpo_policy(cell, 0).inputs["reference"].kind == "sft"
    assert recipes.step_values(cell, 0, "negatives", 2).inputs["policy"].kind == "pretrain"
    later = cell.model_copy(update={"rounds": 2})
    assert recipes.rollouts(later, 0).inputs["policy"].kind == "dpo"


@pytest.mark.parametrize("operands", [3, 4, 5])
def test_systematic_flaws_cancel_and_are_always_the_same_wrong_sums(operands):
    config = ModularSum(modulus=59, operands=operands, flaw_rate=0.6, flaws="systematic")
    family, rng, offsets, wrong, flawed = family_of(config), np.random.default_rng(0), teacher_offsets(59), {}, 0
    assert len(set(np.abs(offsets).ravel())) == 1 and abs(np.mean(offsets > 0) - 0.5) < 0.05
    for _ in range(600):
        problem = family.draw(config, rng)
        check = family.check(config, problem, family.solve(config, problem, rng))
        assert check.reward == 1.0 and check.num_procedure_errors == 0
        assert check.spurious_steps in (0, 2)
        flawed += check.spurious_steps == 2
        for step in check.steps:
            if not step.fact_ok:
                a, b, _, stated, *_ = step.text.split()
                assert wrong.setdefault((a, b), stated) == stated
                assert int(stated) == (int(a) + int(b) + offsets[int(a), int(b)]) % 59
    # Of three operands both orders may lack two signs that cancel, in a fifth of the problems or so.
    assert abs(flawed / 600 - 0.6) < (0.2 if operands == 3 else 0.08)


def test_a_flaw_needs_two_sums():
    config = ModularSum(modulus=11, operands=2, flaw_rate=0.5, flaws="systematic")
    with pytest.raises(ValueError, match="use at least 3 operands"):
        FAMILY.solve(config, Problem("3 5 ?", "8"), np.random.default_rng(0))
