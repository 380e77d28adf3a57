"""A study on a set in plain language: its stages on a tiny checkpoint, from the files to the outcomes."""

import pandas as pd
import pytest
from tiny_set import gsm8k_folder

from data.problems.text_problems import check, step_texts
from data.q_values import best_of_k
from data.records import Problem, read_jsonl
from data.sets import solvable
from data.sets.finite_splits import parts
from data.sets.problem_pool import kept_problems
from scaling.config.sweep import Cell
from scaling.config.text_problems import Gsm8k, Solvable
from scaling.kinds import kind_of, loaded
from scaling.model.flops import sampling_flops
from scaling.planning import recipes
from scaling.planning.chain import solvable as solvable_stage
from scaling.pricing.costs import cost
from scaling.pricing.lengths import expected
from scaling.stage import in_order

pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")

from random_checkpoint import SHAPE, save_random

pytestmark = pytest.mark.slow

OPTIMIZER = {"learning_rate": 3e-3, "epochs": 1, "batch_size": 4}
# A random policy of bytes hits an answer of one digit now and then.
FILTER = {"samples": 8, "num_candidates": 20, "max_new_tokens": 24, "shots": 2}


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    root = tmp_path_factory.mktemp("text")
    problems = {"family": "gsm8k", "path": str(gsm8k_folder(root / "set")), "num_validation": 4, "num_test": 6}
    return Cell.of(
        **{
            "algorithm": "rft",
            "data_size": 4,
            "problems": {**problems, "answer_forms": ["last_number"], "instruction": "", "solvable": FILTER},
            "policy": {"hf": str(save_random(root / "checkpoint"))},
            "sft": OPTIMIZER,
            "rft": OPTIMIZER,
            "rollouts": {"samples_per_problem": 4, "max_new_tokens": 24},
            "evaluation": {"samples_per_problem": 0, "max_new_tokens": 24},
        }
    )


@pytest.fixture(scope="module")
def chain(cell, tmp_path_factory):
    """(folder, numbers) of every stage of the cell's run, by kind."""
    root, folders, numbers = tmp_path_factory.mktemp("chain"), {}, {}
    for stage in in_order([recipes.evaluation(cell, 0)]):
        folders[stage.digest] = root / stage.kind
        folders[stage.digest].mkdir()
        inputs = {name: folders[given.digest] for name, given in stage.inputs.items()}
        run = loaded(kind_of(stage.kind).run)
        numbers[stage.kind] = run({**stage.config, **stage.execution}, inputs, folders[stage.digest])
    return root, numbers


def test_the_filter_keeps_what_was_solved_with_the_fewest_steps_first(chain, cell):
    root, numbers = chain
    kept, tried = kept_problems(root / "solvable", seed=0)
    rows = {row["prompt"]: row for row in read_jsonl(root / "solvable" / "solvable.jsonl")}
    assert numbers["solvable"]["num_candidates"] == tried == 20
    assert numbers["solvable"]["num_solvable"] == len(kept) == len(rows) > 4
    steps = [rows[problem.prompt]["num_steps"] for problem in kept]
    assert steps == sorted(steps) and all(row["num_correct"] > 0 for row in rows.values())
    num_right = numbers["solvable"]["mean_reward"] * 20 * 8
    assert round(num_right) == sum(row["num_correct"] for row in rows.values())
    synthetic = read_jsonl(root / "teacher" / "synthetic.jsonl")
    assert [row["prompt"] for row in synthetic] == [problem.prompt for problem in kept[:4]]
    assert all(best_of_k(row["num_correct"], 8, 8) == 1.0 for row in rows.values())


def test_d_syn_is_the_sets_own_solutions_without_calculator_marks(chain):
    root, numbers = chain
    for row in read_jsonl(root / "teacher" / "synthetic.jsonl"):
        assert row["completion"].endswith(f"#### {row['answer']}") and "<<" not in row["completion"]
    assert numbers["teacher"] == {"num_problems": 4.0, "num_rejected_solutions": 0.0}


def test_no_number_stands_for_what_is_not_known_of_steps(chain):
    root, numbers = chain
    frame = pd.read_parquet(root / "verification" / "verification.parquet")
    assert len(frame) == 16 and frame["reward"].isin([0.0, 1.0]).all() and (frame["num_steps"] > 0).all()
    assert frame[["num_wrong_facts", "num_procedure_errors", "spurious_steps"]].isna().all(axis=None)
    assert "spurious_positive_fraction" not in numbers["verification"]
    assert "procedure_error_fraction" not in numbers["evaluation"] and "no_answer_fraction" in numbers["evaluation"]
    outcomes = pd.read_parquet(root / "evaluation" / "outcomes.parquet")
    assert len(outcomes) == 6 and set(outcomes["error_kind"]) <= {"none", "unknown", "procedure"}


def test_costs_are_those_of_the_candidates_and_of_the_rows_lengths(cell):
    stages = {stage.kind: stage for stage in in_order([recipes.evaluation(cell, 0)])}
    costs = {kind: cost(stage) for kind, stage in stages.items()}
    assert costs["problem_source"].flops == 0
    _, prompt, completion = expected(stages["rollouts"])
    assert completion < 24  # of the rows' solutions, which are shorter than the limit
    shown = prompt + 2 * (prompt + completion)  # behind two other problems with their solutions
    assert costs["solvable"].generation_flops == pytest.approx(20 * 8 * sampling_flops(SHAPE, [shown], [completion]))
    assert costs["rollouts"].generation_flops == pytest.approx(4 * 4 * sampling_flops(SHAPE, [prompt], [completion]))
    assert costs["sft"].training_flops > 0


def test_a_base_policy_that_solves_nothing_is_one_error_that_says_what_to_change(chain, cell):
    root, _ = chain
    stage = solvable_stage(cell)
    config = {**stage.config, "problems": {**stage.config["problems"], "answer_forms": ["boxed"]}}
    inputs = {"source": root / "problem_source", "policy": root / "pretrain", "tokenizer": root / "pretrain"}
    with pytest.raises(ValueError, match=r"solves none of 20 training problems .* answer_forms = \['boxed'\]"):
        solvable.run(config, inputs, root)


def test_more_problems_than_were_kept_are_an_error_that_names_both(chain, cell):
    from data.sets.problem_pool import training_problems

    root, numbers = chain
    inputs = {"solvable": root / "solvable", "source": root / "problem_source"}
    kept = int(numbers["solvable"]["num_solvable"])
    with pytest.raises(ValueError, match=f"data_size is {kept + 1}, but of 20 .* solves only {kept} often enough"):
        training_problems(cell.problems, inputs, 0, kept + 1)


def test_candidates_are_those_with_the_fewest_steps_or_any(chain, cell):
    pool = parts(cell.problems, chain[0] / "problem_source").train
    easy = solvable.candidates(cell.problems, Solvable(), pool, 6)
    assert {solvable.num_steps(cell.problems, problem) for problem in easy} == {2}  # one step and the answer's line
    assert solvable.candidates(cell.problems, Solvable(order="random"), pool, 6) == list(pool[:6])


def test_examples_come_before_the_candidate_with_the_instruction_once():
    config, row = Gsm8k(instruction="End with ####."), Problem("Half of 8?\n\nEnd with ####.", "4", "8/2 = 4\n#### 4")
    asked = Problem("Half of 6?\n\nEnd with ####.", "3")
    assert solvable.prompt_after(config, [], asked) == asked.prompt
    shown = "End with ####.\n\nProblem: Half of 8?\n8/2 = 4\n#### 4\n\nProblem: Half of 6?"
    assert solvable.prompt_after(config, [row], asked) == shown


@pytest.mark.parametrize("unit", ["line", "sentence"])
def test_the_steps_of_a_completion_join_to_it_and_nothing_is_claimed_of_them(unit):
    config = Gsm8k(step_unit=unit)
    for text in ("", "One. Two.\nThree 3.5 is it.\n\n#### 3", "\n"):
        assert "".join(step_texts(config, text)) == text
    verdict = check(config, Problem("?", "3"), "One. Two.\nThree.\n#### 3.0")
    assert [step.text for step in verdict.steps] == {
        "line": ["One. Two.\n", "Three.\n", "#### 3.0"],
        "sentence": ["One.", " Two.\n", "Three.\n", "#### 3.0"],
    }[unit]
    assert (verdict.reward, verdict.answer, verdict.error_kind) == (1.0, "3.0", "none")
    assert verdict.num_wrong_facts is verdict.num_procedure_errors is verdict.spurious_steps is None
    wrong, silent = check(config, Problem("?", "3"), "#### 4"), check(config, Problem("?", "3"), "3")
    assert (wrong.error_kind, silent.error_kind) == ("unknown", "procedure")
