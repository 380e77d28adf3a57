"""The fixed problems: disjoint sets, the same for every seed, nested in their size."""

import pytest
from stage_config import whole

from data.records import load_problems
from data.sets import problem_sets
from data.sets.splits import split_of, stream
from scaling.config.problems import ModularSum

FAMILY = {"family": "modular_sum", "modulus": 23, "operands": 4, "zipf_exponent": 1.0}


def make(out, **changes):
    out.mkdir(exist_ok=True)
    numbers = problem_sets.run(
        whole({"problems": {**FAMILY, "num_validation": 20, "num_test": 40, **changes}}), {}, out
    )
    return [load_problems(out, split) for split in ("validation", "test")], numbers


def test_both_sets_have_the_size_asked_for_and_share_no_problem(tmp_path):
    (validation, test), numbers = make(tmp_path)
    assert numbers == {"num_validation": 20.0, "num_test": 40.0}
    assert (len({p.key for p in validation}), len({p.key for p in test})) == (20, 40)
    assert {split_of(p.key) for p in validation} == {"validation"} and {split_of(p.key) for p in test} == {"test"}


def test_no_seed_trains_on_a_problem_of_either_set(tmp_path):
    (validation, test), _ = make(tmp_path)
    held_out = {problem.key for problem in validation + test}
    for seed in range(3):
        assert held_out.isdisjoint(problem.key for problem in stream(ModularSum(**FAMILY), seed, 100))


def test_a_larger_set_begins_with_the_smaller(tmp_path):
    (validation, test), _ = make(tmp_path / "small")
    (more_validation, more_test), _ = make(tmp_path / "large", num_validation=30, num_test=80)
    assert more_validation[:20] == validation and more_test[:40] == test


def test_reference_answers_are_the_sums(tmp_path):
    (validation, test), _ = make(tmp_path)
    for problem in validation + test:
        assert int(problem.answer) == sum(map(int, problem.prompt.split()[:-1])) % 23


def test_a_set_that_is_cut_short_is_an_error_that_names_the_file(tmp_path):
    make(tmp_path)
    path = tmp_path / "test.jsonl"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ValueError, match=r"test\.jsonl, line 40 .*cut short"):
        load_problems(tmp_path, "test")
