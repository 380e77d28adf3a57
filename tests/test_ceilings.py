"""data.problems.fact_count and analysis.tables.ceilings: the most that a learner of the same problems could save."""

from pathlib import Path

import numpy as np
import pytest
from planted import SIZES, planted

from analysis.api import OutcomesError, fit_table
from analysis.tables.ceilings import ceilings_of
from analysis.tables.outcomes import from_table
from analysis.verdicts.study import analyse
from data.problems import fact_count, ledger, ledger_count, modular_sum
from scaling.config.problems import Ledger, ModularSum
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep

ROOT = Path(__file__).parents[1]


def test_all_orders_of_four_operands_add_twelve_pairs_and_one_order_three_of_them():
    numbers, rng = np.array([[1, 2, 4, 8]]), np.random.default_rng(0)
    every = {divmod(pair, 97) for pair in fact_count.of_all_orders(numbers, 97)[0].tolist()}
    assert every == {
        *((1, 2), (2, 4), (4, 8)),  # at first
        *((3, 4), (6, 1), (1, 8), (12, 1)),  # after one of these
        *((7, 8), (12, 3), (9, 6), (13, 2), (3, 12)),  # at last
    }
    one = fact_count.of_one_order(np.repeat(numbers, 100, axis=0), 97, rng)
    assert one.shape == (100, 3) and {divmod(pair, 97) for pair in one.ravel().tolist()} == every


def test_the_ceiling_is_the_horizontal_distance_and_none_beyond_the_curve():
    one, every = np.array([0.8, 0.6, 0.4, 0.2]), np.array([0.6, 0.4, 0.2, 0.1])
    assert fact_count.horizontal_distance([32, 64, 128, 256], one, every) == [*(pytest.approx(2.0),) * 3, None]


def test_with_one_sum_a_problem_no_test_problem_is_ever_shown_and_the_text_decides():
    problems = ModularSum(modulus=97, operands=2, zipf_exponent=0.0, num_test=1000)
    one, every = fact_count.count(problems, [64, 256])
    unknown = (modular_sum.web_facts(problems, 0).confidence < 0.5)[~np.eye(97, dtype=bool)].mean()
    assert (one == every).all() and one[0] == one[1]
    # The mean of 20 x 1,000 draws from 97 x 96 sums has a standard error of at most .0035.
    assert one[0] == pytest.approx(unknown, abs=0.012)


def test_four_operands_leave_a_factor_between_one_and_the_twelve_sums_over_three():
    found = fact_count.ceiling(ModularSum(num_test=500), (64, 256))
    assert sorted(found) == [64, 256]
    assert all(3.0 < m < 5.0 for m in found.values())  # twelve sums over three, and rare ones


def test_flawed_teachers_have_no_ceiling():
    assert fact_count.ceiling(ModularSum(flaw_rate=0.1), (64,)) == {}


def test_all_orders_of_a_ledgers_sum_add_each_term_to_each_set_of_the_others():
    """1, 2, 4 and 8 have a different sum for every set: 22 facts of four terms, of which an order adds three."""
    for terms, reachable in (([1, 2, 4, 8], 22), ([1, 2, 4, 8, 16], 65)):
        sums, rng = [np.array([terms])], np.random.default_rng(0)
        every = set(ledger_count.of_all_orders(sums, 97)[0].tolist())
        assert len(every) == reachable == len(terms) * 2 ** (len(terms) - 1) - len(terms) * (len(terms) + 1) // 2
        one = ledger_count.of_one_order([np.repeat(sums[0], 2000, axis=0)], 97, rng)
        assert one.shape == (2000, len(terms) - 1) and set(one.ravel().tolist()) == every


def test_the_facts_counted_of_a_ledger_are_those_that_its_solutions_state():
    config, rng = Ledger(modulus=97, unneeded=()), np.random.default_rng(0)
    stated = []
    for _ in range(60):
        problem = ledger.draw(config, rng)
        found = set()
        for _ in range(200):
            steps = ledger.solve(config, problem, rng).split(" ; ")[:-1]
            found |= {frozenset(map(int, step.split()[-6:-2:3])) for step in steps}
        stated.append(len(found))
    own, _ = ledger_count.drawn(config, 4000, rng)
    counted = [len(set(row)) for row in ledger_count.of_all_orders(own, 97).tolist()]
    assert np.mean(stated) == pytest.approx(np.mean(counted), abs=4 * np.std(counted) / np.sqrt(len(stated)))
    shown = ledger_count.of_one_order(own, 97, rng)
    assert shown.shape == (4000, 7) and 10 < np.mean(counted) / 7 < 87 / 7


def test_a_ledger_leaves_a_factor_of_about_its_reachable_over_its_shown_facts():
    found = ledger_count.ceiling(Ledger(num_test=500), (32, 64))
    assert sorted(found) == [32, 64]
    assert all(8.0 < m <= 16.0 for m in found.values())


@pytest.mark.parametrize("changes", [{"flaw_rate": 0.1}, {"unneeded_rate": 0.1}])
def test_a_ledger_whose_teacher_shows_more_or_less_than_a_solution_has_no_ceiling(changes):
    assert ledger_count.ceiling(Ledger(**changes), (64,)) == {}


@pytest.mark.parametrize(("name", "known"), [("quickstart", True), ("paper_star_graph", False)])
def test_a_sweep_has_the_ceilings_of_its_family_at_the_sizes_of_its_algorithms(name, known):
    sweep = load_sweep(ROOT / "sweeps" / f"{name}.yaml")
    found = ceilings_of(sweep, plan(sweep, lambda stage: None))
    assert {panel: list(sizes) for panel, sizes in found.items()} == ({"": [64, 128, 256]} if known else {})


def test_a_base_policy_without_the_familys_text_has_no_ceiling():
    sweep = load_sweep(ROOT / "sweeps" / "quickstart.yaml", ["policy.base=random"])
    assert ceilings_of(sweep, plan(sweep, lambda stage: None)) == {}


@pytest.fixture(scope="module")
def outcomes():
    return from_table(planted({"sft": 1.0, "rft": 2.0, "dpo": 1.0}, num_problems=300))


def test_a_claim_above_the_ceiling_cannot_be_tested_and_changes_no_number(outcomes):
    claims, ceiling = {"rft": 8, "dpo": "<=5"}, dict.fromkeys(SIZES, 4.6)
    without, found = (analyse(outcomes, "sft", claims, 200, ceiling=one) for one in ({}, ceiling))
    assert without.verdict("rft").answer.status == "not met"
    assert without.verdict("rft").code == found.verdict("rft").code == "DETERMINED"
    for name in claims:
        assert found.verdict(name).answer.status == "cannot be tested"
        assert "could be worth more than 4.60x" in found.verdict(name).claim_sentence
    assert found.multipliers == without.multipliers
    assert found.verdict("rft").headline == without.verdict("rft").headline


def test_a_claim_below_the_ceiling_or_without_one_at_every_size_is_tested(outcomes):
    for ceiling in (dict.fromkeys(SIZES, 8.5), dict.fromkeys(SIZES[:-1], 4.6), {**dict.fromkeys(SIZES, 4.6), 64: 9.0}):
        found = analyse(outcomes, "sft", {"rft": 8}, 200, ceiling=ceiling)
        assert found.verdict("rft") == analyse(outcomes, "sft", {"rft": 8}, 200).verdict("rft")


def test_a_ceiling_that_the_data_exceed_is_none():
    outcomes = from_table(planted({"sft": 1.0, "rft": 3.0}, num_problems=1000, run_sd=0.02))
    found = analyse(outcomes, "sft", {"rft": 8}, 200, ceiling=dict.fromkeys(SIZES, 1.2))
    assert found.verdict("rft").answer.status == "not met"


def test_a_table_of_ones_own_may_state_a_ceiling_at_its_sizes_only():
    frame = planted({"sft": 1.0, "rft": 2.0}, num_problems=100)
    found = fit_table(frame, "sft", {"rft": 8}, draws=200, ceiling=4.6)
    assert found.verdicts["claim_status"].tolist() == ["cannot be tested"]
    with pytest.raises(OutcomesError, match="the ceiling at D = 65 is 3; it is a multiplier above 0, at one of"):
        fit_table(frame, ceiling={65: 3})
    with pytest.raises(OutcomesError, match="not given at all sizes of rft; it lacks D = 128, 256"):
        fit_table(frame, ceiling={64: 3})
