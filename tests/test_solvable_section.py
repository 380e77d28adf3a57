"""The report's word on filtered training problems: what was asked for, what was tried and kept, and none without."""

from types import SimpleNamespace

import pandas as pd

from analysis.measures.sections import solvable_section
from scaling.config.problems import ModularSum
from scaling.config.text_problems import Gsm8k, Solvable


def plan_of(*problems):
    return SimpleNamespace(runs=[SimpleNamespace(cell=SimpleNamespace(problems=item)) for item in problems])


RUNS = pd.DataFrame({"panel": ["", "", ""], "num_candidates": [512.0, 512.0, None], "num_solvable": [64.0, 64.0, None]})


def test_tried_and_kept_are_told_once_with_what_was_asked_for():
    filtered = Gsm8k(solvable=Solvable(samples=8, min_correct=2))
    (section,) = solvable_section(plan_of(filtered, filtered), RUNS)
    asked, found = section.bullets
    assert "at least 2 of 8 completions" in asked and "512 training problems" in asked and "fewest steps" in asked
    assert found == "512 were tried and 64 kept (12.5 %)."


def test_before_a_run_has_finished_only_what_was_asked_for_is_told():
    (section,) = solvable_section(plan_of(Gsm8k(solvable=Solvable())), pd.DataFrame({"panel": [""]}))
    assert len(section.bullets) == 1


def test_a_sweep_without_the_filter_has_no_such_section():
    assert solvable_section(plan_of(ModularSum(), Gsm8k()), RUNS) == []
