"""The artifacts that come with the repository: used by the plans, whole, and as good as promised."""

from pathlib import Path

import pandas as pd
import pytest

from data import evaluation
from data.sets import problem_sets
from scaling.engine.store import Store
from scaling.kinds import kind_of
from scaling.paths import SHIPPED
from scaling.planning import recipes
from scaling.planning.grid import cells
from scaling.planning.sweep_file import load_sweep

QUICKSTART = Path(__file__).parents[1] / "sweeps" / "quickstart.yaml"


@pytest.fixture(scope="module")
def cell():
    return cells(load_sweep(QUICKSTART))[0]


def test_the_quickstart_needs_no_pretraining(cell):
    stage = recipes.base_policy(cell)
    record = Store(SHIPPED).record(stage)
    assert record is not None, f"{stage.name} is not shipped: the stage's config or version changed; train it again"
    assert record["digest"] == stage.digest
    assert record["version"] == kind_of("pretrain").version
    assert record["provenance"]["dirty"] is False


def test_shipped_artifacts_are_whole_and_small():
    folders = [path.parent for path in SHIPPED.rglob("record.json")]
    assert folders
    faults = dict(Store(SHIPPED).verify())
    for cell_ in cells(load_sweep(QUICKSTART)):
        assert faults[Store(SHIPPED).root / recipes.base_policy(cell_).name] is None
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 4e6


def test_the_base_policy_knows_the_procedure_and_errs_in_facts(cell, tmp_path):
    problems = recipes.fixed_problems(cell)
    (tmp_path / "problems").mkdir()
    problem_sets.run(problems.config, {}, tmp_path / "problems")
    config = {**recipes.base_evaluation(cell).config, "split": "validation"}
    inputs = {"policy": Store(SHIPPED).find(recipes.base_policy(cell)), "problems": tmp_path / "problems"}
    numbers = evaluation.run(config, inputs, tmp_path)
    wrong = pd.read_parquet(tmp_path / "outcomes.parquet").query("wrong == 1")
    assert (wrong["error_kind"] == "fact").mean() >= 0.95
    assert 0.5 < numbers["error"] < 0.95  # room on both sides
