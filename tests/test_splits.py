"""Splits and streams: disjoint, nested, independent, and all of one distribution."""

from collections import Counter

import numpy as np
import pytest

from data.problems.families import family_of
from data.records import Problem
from data.sets.splits import held_out, pool_size, split_of, stream
from scaling.config.problems import Ledger, ModularSum, StarGraph

SUMS = ModularSum(modulus=59, zipf_exponent=1.0)
MIXED = SUMS.model_copy(update={"held_out_seed": 4})
CONFIGS = [SUMS, ModularSum(modulus=11, operands=3, zipf_exponent=0.0), StarGraph(path_length=3, num_nodes=12), MIXED]
CONFIGS.append(Ledger(modulus=23))


@pytest.mark.parametrize("config", CONFIGS, ids=["zipf", "small", "star", "mixed", "ledger"])
def test_no_stream_meets_the_validation_or_test_problems(config):
    sized = config.model_copy(update={"num_validation": 60, "num_test": 60})
    fixed = {problem.prompt for problems in held_out(sized).values() for problem in problems}
    assert len(fixed) == 120
    for seed in range(40):
        problems = stream(config, seed, 60)
        assert len({problem.prompt for problem in problems}) == 60
        assert fixed.isdisjoint(problem.prompt for problem in problems)


def test_a_split_follows_from_the_content_alone():
    counts = Counter(split_of(Problem(f"{index} ?", "").key) for index in range(20_000))
    for split, tenths in (("train", 8), ("validation", 1), ("test", 1)):
        spread = 5 * np.sqrt(20_000 * tenths / 10 * (1 - tenths / 10))
        assert abs(counts[split] - 2000 * tenths) < spread
    assert [split_of(f"{tenth:x}") for tenth in range(10)] == ["train"] * 8 + ["validation", "test"]


def test_a_problem_keeps_its_key_across_versions():
    """sha256 of 'abc' begins with ba7816bf8f01cfea (FIPS 180-2, appendix B.1)."""
    assert Problem("abc", "anything").key == "ba7816bf8f01cfea"


def test_sizes_are_nested():
    thousand = stream(SUMS, 3, 1000)
    assert stream(SUMS, 3, 500) == thousand[:500]
    assert asked(SUMS, 30) == asked(SUMS, 90)[:30]


def test_seeds_are_independent_and_neighbours_share_nothing():
    """With 8.7 million training problems of uniform law, two streams of 300 share .01 problems on average."""
    uniform = ModularSum(modulus=59, zipf_exponent=0.0)
    streams = [{problem.prompt for problem in stream(uniform, seed, 300)} for seed in range(6)]
    assert sum(len(one & other) for one in streams for other in streams if one is not other) <= 2
    assert stream(uniform, 0, 300) == stream(uniform, 0, 300)


def test_fixed_problems_do_not_depend_on_settings_that_leave_the_law_alone():
    changed = SUMS.model_copy(update={"num_test": 77, "flaw_rate": 0.5, "web_confidence": (2.0, 1.0)})
    assert asked(SUMS, 50) == asked(changed, 50)


def test_held_out_problems_drawn_together_are_of_one_law():
    """Without it the likely problems stand first: a set has fewer of them the larger it is.

    The mean log probability of 1,200 test and 300 validation problems, in standard errors of their difference.
    """
    steep = ModularSum(modulus=97, zipf_exponent=1.75)
    for config, alike in ((steep.model_copy(update={"held_out_seed": 4}), True), (steep, False)):
        sets = held_out(config.model_copy(update={"num_validation": 300, "num_test": 1200}))
        chances = [[family_of(config).log_probability(config, item) for item in sets[name]] for name in sets]
        spread = np.sqrt(sum(np.var(values) / len(values) for values in chances))
        apart = abs(np.mean(chances[0]) - np.mean(chances[1])) / spread
        assert (apart < 4) == alike


def test_another_seed_holds_other_problems_out():
    first, second = (held_out(SUMS.model_copy(update={"held_out_seed": seed}))["test"] for seed in (0, 1))
    assert len(first) == len(second) == SUMS.num_test
    assert first != second and held_out(SUMS.model_copy(update={"held_out_seed": 0}))["test"] == first


def test_leaving_test_problems_out_does_not_bend_the_distribution():
    """Operand counts of 3,000 test and 3,000 training problems, against plain draws without any split.

    The two-sample chi-square over 59 operands has mean 58 and standard deviation sqrt(2 * 58) = 10.8; the bound is
    five of these above the mean.
    """
    rng = np.random.default_rng(5)
    plain = _operand_counts([family_of(SUMS).draw(SUMS, rng) for _ in range(3000)])
    test, train = _operand_counts(asked(SUMS, 3000)), _operand_counts(stream(SUMS, 0, 3000))
    bound = 58 + 5 * np.sqrt(2 * 58)
    for one, other in ((test, train), (test, plain), (train, plain)):
        assert np.sum((one - other) ** 2 / (one + other)) < bound


def test_the_pool_of_a_uniform_law_is_nine_tenths_of_the_splits_share():
    uniform = ModularSum(modulus=11, operands=3, zipf_exponent=0.0)  # 11 * 10 * 9 = 990 problems
    assert pool_size(uniform) == pytest.approx(0.9 * 0.8 * 990, abs=2)
    assert pool_size(uniform, "test") == pytest.approx(0.9 * 0.1 * 990, abs=2)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_a_stream_reaches_the_end_of_its_pool(exponent):
    config = ModularSum(modulus=11, operands=3, zipf_exponent=exponent)
    pool = pool_size(config)
    assert len(stream(config, 0, pool)) == pool


def test_a_steeper_law_has_a_smaller_pool():
    pools = [pool_size(ModularSum(modulus=59, zipf_exponent=exponent)) for exponent in (0.0, 1.0, 1.5, 3.0)]
    assert pools == sorted(pools, reverse=True)
    assert pools[-1] < pools[0] / 100


def test_asking_beyond_the_pool_is_a_clear_error():
    config = ModularSum(modulus=5, operands=2, zipf_exponent=0.0)  # 20 problems, about 16 for training
    with pytest.raises(ValueError, match="1000 train problems were asked for, but modular_sum offers 14 "):
        stream(config, 0, 1000)
    with pytest.raises(ValueError, match="test problems were asked for"):
        asked(config, 50)


def asked(config, count):
    return held_out(config.model_copy(update={"num_validation": 1, "num_test": count}))["test"]


def _operand_counts(problems):
    words = Counter(word for problem in problems for word in problem.prompt.split()[:-1])
    return np.array([words[str(value)] for value in range(SUMS.modulus)], float)
