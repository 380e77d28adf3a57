"""Finite sets: parts that share no problem, nested sizes, and what does not fit named with both numbers."""

import pytest
from stage_config import whole
from test_problem_source import imported
from tiny_set import gsm8k_folder, own_rows

from data.records import load_problems
from data.sets import problem_sets
from data.sets.finite_splits import parts, set_sizes
from data.sets.problem_pool import held_out_problems, training_problems
from data.sets.splits import pool_size
from scaling.config.text_problems import Gsm8k, Jsonl

SIZES = {"num_validation": 6, "num_test": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return gsm8k_folder(tmp_path_factory.mktemp("set") / "gsm8k")


@pytest.fixture(scope="module")
def source(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("imported") / "source"
    imported(Gsm8k(path=str(folder)), out)
    return out


def prompts(problems):
    return [problem.prompt for problem in problems]


def test_validation_is_carved_from_train_and_the_test_split_is_the_sets_own(source):
    config = Gsm8k(**SIZES)
    found = parts(config, source)
    assert (len(found.train), len(found.validation), len(found.test)) == (24, 6, 12)
    numbers = {int(problem.prompt.split()[3].rstrip("?")) for problem in found.train + found.validation}
    assert numbers == set(range(30))
    assert all(int(problem.prompt.split()[3].rstrip("?")) >= 1000 for problem in found.test)
    assert found == parts(config, source)


def test_a_prompt_is_the_problem_and_the_instruction_after_a_blank_line(source):
    config = Gsm8k(**SIZES, instruction="End with ####.")
    assert all(text.endswith("?\n\nEnd with ####.") for text in prompts(parts(config, source).test))
    bare = parts(Gsm8k(**SIZES, instruction=""), source)
    assert all(text.endswith("?") for text in prompts(bare.train))


def test_more_held_out_problems_begin_with_the_fewer(source):
    few, many = parts(Gsm8k(**SIZES), source), parts(Gsm8k(num_validation=12, num_test=12), source)
    assert many.test == few.test and many.validation[:6] == few.validation
    assert set(many.train) < set(few.train)


def test_a_seed_shuffles_the_pool_and_its_sizes_are_nested(source):
    config, inputs = Gsm8k(**SIZES), {"source": source}
    small, large, other = (training_problems(config, inputs, seed, n) for seed, n in ((0, 8), (0, 24), (1, 24)))
    assert large[:8] == small and len(set(prompts(large))) == 24
    assert prompts(other) != prompts(large) and set(other) == set(large)
    for problems in held_out_problems(config, inputs).values():
        assert set(prompts(problems)).isdisjoint(prompts(large))


def test_the_stage_writes_the_held_out_problems_and_the_pool(source, tmp_path):
    numbers = problem_sets.run(whole({"problems": {"family": "gsm8k", **SIZES}}), {"source": source}, tmp_path)
    assert numbers == {"num_validation": 6.0, "num_test": 8.0, "num_train": 24.0}
    assert prompts(load_problems(tmp_path, "train")) == prompts(parts(Gsm8k(**SIZES), source).train)


def test_more_problems_than_the_pool_has_is_an_error_that_names_both(source):
    with pytest.raises(ValueError, match="data_size is 25, but the set has 24 training problems"):
        training_problems(Gsm8k(**SIZES), {"source": source}, 0, 25)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_test": 13}, "num_test is 13, but the set has 12 test problems"),
        ({"num_validation": 30}, "num_validation is 30, to be taken from 30 training problems"),
    ],
)
def test_held_out_problems_that_do_not_fit_are_an_error_that_names_both(source, sizes, message):
    config = Gsm8k(**{**SIZES, **sizes})
    with pytest.raises(ValueError, match=message):
        held_out_problems(config, {"source": source})


def test_one_file_is_parted_as_a_whole(tmp_path):
    rows = [{"prompt": f"{index}?", "answer": index} for index in range(20)]
    config = Jsonl(path=str(own_rows(tmp_path / "rows.jsonl", rows)), num_validation=3, num_test=5)
    imported(config, tmp_path / "out")
    found = parts(config, tmp_path / "out")
    assert (len(found.train), len(found.validation), len(found.test)) == (12, 3, 5)
    assert len({problem.key for part in (found.train, found.validation, found.test) for problem in part}) == 20
    with pytest.raises(ValueError, match="num_test is 5 and num_validation 15, but the set has 20 problems in all"):
        parts(config.model_copy(update={"num_validation": 15}), tmp_path / "out")


def test_a_validation_file_leaves_the_training_problems_whole(tmp_path):
    folder = gsm8k_folder(tmp_path / "set")
    (folder / "validation.jsonl").write_text('{"question": "Half of 8?", "answer": "#### 4"}\n')
    config = Gsm8k(path=str(folder), num_validation=1, num_test=8)
    imported(config, tmp_path / "out")
    found = parts(config, tmp_path / "out")
    assert len(found.train) == 30 and [problem.answer for problem in found.validation] == ["4"]
    assert set_sizes(config) == {"train": 30, "validation": 1, "test": 12}


def test_a_plan_knows_the_sizes_of_local_sets_and_of_those_named_by_default(folder):
    assert set_sizes(Gsm8k(path=str(folder), **SIZES)) == {"train": 24, "validation": 29, "test": 12}
    assert pool_size(Gsm8k(), "train") == 7473 - 512 and pool_size(Gsm8k(), "test") == 1319
    assert set_sizes(Gsm8k(hub="someone/else")) is None


def test_a_row_without_a_solution_cannot_be_taught_from(tmp_path):
    from data.teacher import synthetic

    rows = [{"prompt": f"{index}?", "answer": index} for index in range(4)]
    config = Jsonl(path=str(own_rows(tmp_path / "rows.jsonl", rows)), num_validation=1, num_test=1)
    imported(config, tmp_path / "out")
    asked = whole({"problems": {"family": "jsonl", "num_validation": 1, "num_test": 1}, "data_size": 2, "seed": 0})
    with pytest.raises(ValueError, match="has no solution of its own, and no other teacher is set"):
        synthetic.run({**asked, "teacher": {"keep_unverified": False}}, {"source": tmp_path / "out"}, tmp_path)
