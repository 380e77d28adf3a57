"""The teacher: nested sizes, verified solutions, and every flaw counted."""

import numpy as np
import pytest

from data.problems.families import family_of
from data.records import Problem, read_jsonl
from data.sets.splits import split_of
from data.teacher import synthetic
from scaling.config.problems import ModularSum, StarGraph
from scaling.config.section import parse, plain

SUMS = plain(ModularSum(modulus=23, operands=4))
STARS = plain(StarGraph(degree=2, path_length=4, num_nodes=20))


def make(out, problems, data_size, seed=0, keep_unverified=False):
    """The stage's rows and numbers."""
    config = {
        "problems": problems,
        "teacher": {"keep_unverified": keep_unverified},
        "data_size": data_size,
        "seed": seed,
    }
    out.mkdir(exist_ok=True)
    numbers = synthetic.run(config, {}, out)
    return read_jsonl(out / "synthetic.jsonl"), numbers


def checks(problems, rows):
    settings = parse(ModularSum if problems["family"] == "modular_sum" else StarGraph, problems)
    family = family_of(settings)
    return [family.check(settings, Problem(row["prompt"], row["answer"]), row["completion"]) for row in rows]


@pytest.mark.parametrize("problems", [SUMS, STARS, {**SUMS, "flaw_rate": 0.5}, {**STARS, "flaw_rate": 0.5}])
def test_the_first_sixteen_of_thirty_two_are_the_sixteen_of_the_seed(tmp_path, problems):
    small, _ = make(tmp_path / "small", problems, 16)
    large, _ = make(tmp_path / "large", problems, 32)
    assert large[:16] == small and len({row["prompt"] for row in large}) == 32


def test_seeds_give_other_problems_and_the_same_seed_the_same_bytes(tmp_path):
    rows = [make(tmp_path / name, SUMS, 16, seed)[0] for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert rows[0] == rows[1]
    assert len({row["prompt"] for row in rows[0]} & {row["prompt"] for row in rows[2]}) < 4


def test_every_problem_is_a_training_problem_with_its_true_answer(tmp_path):
    rows, numbers = make(tmp_path / "rows", SUMS, 32)
    for row in rows:
        assert split_of(Problem(row["prompt"], row["answer"]).key) == "train"
        assert int(row["answer"]) == sum(map(int, row["prompt"].split()[:-1])) % 23
        assert row.keys() == {"prompt", "answer", "completion"}
    assert numbers == {
        "num_problems": 32.0,
        "num_rejected_solutions": 0.0,
        "num_spurious_steps": 0.0,
    }
    assert all(check.reward == 1.0 and check.error_kind == "none" for check in checks(SUMS, rows))


def test_flaws_cancel_verify_and_are_counted_as_two_spurious_steps_each(tmp_path):
    problems = {**SUMS, "flaw_rate": 1.0}
    rows, numbers = make(tmp_path / "rows", problems, 32)
    found = checks(problems, rows)
    assert [(check.reward, check.spurious_steps, check.error_kind) for check in found] == [(1.0, 2, "fact")] * 32
    assert numbers == {
        "num_problems": 32.0,
        "num_rejected_solutions": 0.0,
        "num_spurious_steps": 64.0,
        "flawed_fraction": 1.0,
    }


def test_the_share_of_flawed_solutions_is_the_flaw_rate(tmp_path):
    problems = {**SUMS, "flaw_rate": 0.25}
    rows, numbers = make(tmp_path / "rows", problems, 400)
    flawed = sum(check.spurious_steps > 0 for check in checks(problems, rows))
    assert numbers["num_spurious_steps"] == 2 * flawed
    assert abs(flawed - 100) < 4 * np.sqrt(400 * 0.25 * 0.75)  # four standard deviations of the binomial


def test_a_solution_that_does_not_verify_is_drawn_again_and_counted(tmp_path):
    rows, numbers = make(tmp_path / "rows", {**STARS, "flaw_rate": 0.5}, 100)
    assert all(row["completion"] == row["answer"] for row in rows)
    # Attempts before the first right one are geometric: mean 1 and variance 2 a problem at a rate of one half.
    assert abs(numbers["num_rejected_solutions"] - 100) < 4 * np.sqrt(100 * 2)


def test_unverified_solutions_can_be_kept_and_none_is_rejected(tmp_path):
    problems = {**STARS, "flaw_rate": 0.5}
    rows, numbers = make(tmp_path / "rows", problems, 100, keep_unverified=True)
    wrong = sum(check.reward == 0.0 for check in checks(problems, rows))
    assert abs(wrong - 50) < 4 * np.sqrt(100 * 0.25)
    assert (numbers["num_rejected_solutions"], numbers["num_spurious_steps"]) == (0.0, 0.0)


def test_keeping_the_unverified_changes_only_the_solutions_that_were_wrong(tmp_path):
    problems = {**STARS, "flaw_rate": 0.5}
    dropped, _ = make(tmp_path / "dropped", problems, 50)
    kept, _ = make(tmp_path / "kept", problems, 50, keep_unverified=True)
    assert [row["prompt"] for row in kept] == [row["prompt"] for row in dropped]
    assert all(new == old for new, old in zip(kept, dropped, strict=True) if new["completion"] == new["answer"])


def test_a_teacher_that_is_always_wrong_is_an_error_with_its_cure(tmp_path):
    with pytest.raises(ValueError, match=r"teacher: 64 solutions of .*flaw_rate is 1\.0.*keep_unverified: true"):
        make(tmp_path / "rows", {**STARS, "flaw_rate": 1.0}, 4)


def test_a_key_that_the_schema_does_not_know_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="keep_unverifed"):
        synthetic.run({"problems": SUMS, "teacher": {"keep_unverifed": True}, "data_size": 4, "seed": 0}, {}, tmp_path)
