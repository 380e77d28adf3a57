"""What --plan says of the cost: what is counted in which sum."""

import pytest
import yaml

from scaling import recipes
from scaling.costs import Cost
from scaling.critical_steps import critical_steps
from scaling.estimate import cost_table, estimates
from scaling.grid import cells
from scaling.plan import plan
from scaling.sweep_file import load_sweep

SWEEP = {
    "question": "What does it cost?",
    "problems": {"family": "modular_sum", "num_test": 20, "num_validation": 5},
    "grid": {"algorithm": ["sft", "step_dpo"], "data_size": [8]},
    "seeds": [0],
    "evaluation": {"critical_steps": {"problems": 8}},
}
HARDWARE = {"name": "one H100", "num_devices": 1, "flops_per_second_per_device": 1e15, "memory_gib_per_device": 80}


@pytest.fixture
def sweep(tmp_path):
    def load(**changes):
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump({**SWEEP, **changes}))
        return load_sweep(path)

    return load


def planned(sweep):
    return plan(sweep, lambda stage: None).stages


def test_waiting_for_teachers_is_not_divided_among_workers(sweep):
    loaded = sweep(evaluation={})
    stage = recipes.synthetic(cells(loaded)[0], 0)
    *_, line = estimates({stage: Cost(request_seconds=7200.0)}, (), {}, loaded, slots=4)
    assert "2 h 00 min of it waiting for the teachers' replies, about 2 h 00 min on 4 workers" in line
    *_, line = estimates({stage: Cost(training_flops=2e10 * 7200)}, (), {}, loaded, slots=4)
    assert "Estimated: 2 h 00 min of one worker, about 30 min 00 s on 4 workers" in line


def test_the_table_has_a_row_for_each_kind_and_the_waiting_in_the_teachers(sweep):
    loaded = sweep(resources={"hardware": HARDWARE})
    stages = planned(loaded)
    work = {stage: Cost(request_seconds=60.0) if stage.kind == "teacher" else Cost() for stage in stages}
    table = cost_table(stages, (), work, {}, loaded.resources.hardware)
    kinds, times = (list(table.columns[index].cells) for index in (0, -1))
    assert set(kinds) == {stage.kind for stage in stages}
    assert dict(zip(kinds, times, strict=True))["teacher"] == "1 min 00 s"
    assert critical_steps(cells(loaded)[0], 0).kind in kinds
