"""Compute at equal error: planted curves in FLOPs, whatever sets the budgets, and errors that are not reached."""

import numpy as np
import pytest
from planted import planted

from analysis.page.parts import Parts
from analysis.page.rendering import as_table
from analysis.page.wording import SWEEP
from analysis.reporting.study_sections import study_sections
from analysis.tables.outcomes import from_table
from analysis.verdicts.compute import FLOPS
from analysis.verdicts.equal_error import EqualError, equal_errors, learner_of
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import analyse

PRICE = 1e6  # FLOPs of a problem


def study_of(multipliers, **settings):
    return analyse(from_table(planted(multipliers, num_problems=400, **settings)), "sft", {}, num_draws=300)


def flops_of(study, **times):
    """A run costs PRICE a problem, or so many times more."""
    cells = zip(study.outcomes.algorithm, study.outcomes.data_size, strict=True)
    return {(str(name), int(size)): PRICE * times.get(str(name), 1.0) * float(size) for name, size in cells}


def by_kind(found, learner, kind):
    return [item for item in found if (item.learner, item.kind) == (learner, kind)]


def test_a_planted_multiplier_of_compute_is_found_with_its_interval():
    study = study_of({"sft": 1.0, "rft": 3.0})
    for times in (1.0, 2.0):  # a run that costs twice as much has half the multiplier
        found = equal_errors(study, flops_of(study, rft=times))
        (mean,) = by_kind(found, "rft", "mean")
        assert mean.low < 3 / times < mean.high and mean.estimate == pytest.approx(3 / times, rel=0.35)
        budgets = by_kind(found, "rft", "budget")
        assert [item.flops for item in budgets] == pytest.approx([PRICE * times * 64 * 2**k for k in range(5)])
        assert all(item.low <= item.estimate <= item.high for item in budgets)
        assert [item.error for item in budgets] == sorted((item.error for item in budgets), reverse=True)


def test_budgets_of_every_axis_make_one_curve_of_a_learner():
    # The variants of group_pg are its budgets at one data size; they cost 1, 2 and 4 times what SFT does at 128.
    variants = {f"group_pg, iterations={count}": count / 10 for count in (10, 20, 40)}
    table = planted({"sft": 1.0, **{name: 2 * share for name, share in variants.items()}}, num_problems=400)
    kept = (table["algorithm"] == "sft") | (table["data_size"] == 128)
    study = analyse(from_table(table[kept]), "sft", {}, num_draws=300)
    found = equal_errors(study, flops_of(study, **variants))
    budgets = by_kind(found, "group_pg", "budget")
    assert [item.flops for item in budgets] == pytest.approx([128 * PRICE, 256 * PRICE, 512 * PRICE])
    (mean,) = by_kind(found, "group_pg", "mean")
    assert mean.low < 2 < mean.high
    assert {item.learner for item in found} == {"group_pg"}


def test_a_setting_that_is_no_budget_makes_another_learner():
    assert learner_of("rft, samples_per_problem=64, classes=3, rounds=4") == "rft, classes=3"
    assert learner_of("group_pg") == "group_pg" != learner_of("group_pg, loss=dapo")


def test_an_error_below_the_references_is_not_reached():
    study = study_of({"sft": 1.0, "step_dpo": 40.0, "worse": 0.05})
    found = equal_errors(study, flops_of(study))
    last = by_kind(found, "step_dpo", "budget")[-1]
    assert last.estimate == last.high == np.inf and last.not_reached > 0.95
    of_reference = [spent for (name, _), spent in flops_of(study).items() if name == "sft"]
    assert 0 < last.low <= max(of_reference) / last.flops * (1 + 1e-12)  # no more than the data show, but for rounding
    first = by_kind(found, "worse", "budget")[0]
    assert first.estimate == first.low == 0 and first.not_reached == 0
    assert not by_kind(found, "step_dpo", "mean")


def test_nothing_is_said_without_costs_draws_or_three_budgets_of_the_reference():
    study = study_of({"sft": 1.0, "rft": 2.0}, sizes=(64, 128))
    assert equal_errors(study, flops_of(study)) == () == equal_errors(study, {})
    few = study_of({"sft": 1.0, "rft": 2.0}, num_seeds=2)
    assert few.draws is None and equal_errors(few, flops_of(few)) == ()


def test_the_report_has_a_table_of_it(tmp_path):
    study = study_of({"sft": 1.0, "rft": 3.0, "step_dpo": 40.0})
    panel = Panel(study, costs={FLOPS: flops_of(study)})
    shown = study_sections("", panel, tmp_path, SWEEP, Parts())
    (table,) = (section.tables[0] for section in shown if section.title == "Compute at equal error")
    assert {len(row) for row in table.rows} == {len(table.columns)} == {6}
    assert ("RFT", "mean") in [row[:2] for row in table.rows] and "not reached" in {row[3] for row in table.rows}
    assert len(as_table(EqualError, panel.equal_errors)) == len(panel.equal_errors) == len(table.rows)
    without = study_sections("", Panel(study), tmp_path, SWEEP, Parts())
    assert "Compute at equal error" not in [section.title for section in without]
