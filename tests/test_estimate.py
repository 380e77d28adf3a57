"""What --plan says of the cost: whose work is whose, and what is counted in which sum."""

import pytest
import yaml

from scaling.planning import recipes
from scaling.planning.grid import cells
from scaling.planning.plan import plan
from scaling.planning.recipes import critical_steps
from scaling.planning.sweep_file import load_sweep
from scaling.pricing.costs import Cost, costs
from scaling.pricing.estimate import cost_table, estimates, server_lines
from scaling.stage import in_order

SERVED = {
    "question": "Who samples?",
    "problems": {"family": "modular_sum", "num_test": 20, "num_validation": 5},
    "grid": {"algorithm": ["sft", "step_dpo"], "data_size": [8]},
    "seeds": [0],
    "evaluation": {"critical_steps": {"problems": 8}},
    "sampler": {"endpoint": "http://gpu7:8000/v1", "export": True},
}
HARDWARE = {"name": "one H100", "num_devices": 1, "flops_per_second_per_device": 1e15, "memory_gib_per_device": 80}


@pytest.fixture
def sweep(tmp_path):
    def load(**changes):
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump({**SERVED, **changes}))
        return load_sweep(path)

    return load


def planned(sweep):
    return plan(sweep, lambda stage: None).stages


def test_the_servers_work_has_a_line_of_its_own_and_is_in_no_other_sum(sweep):
    served, ours = planned(sweep()), planned(sweep(sampler=None))
    work = costs(served)
    line, here = server_lines(work)
    flops = sum(item.server_flops for item in work.values())
    assert f"{flops:.1e} FLOPs of generation by gpu7:8000" in line and "critical_traces" in line
    sampled = [stage for stage in served if stage.kind in ("rollouts", "step_values", "evaluation", "critical_traces")]
    assert f"for {len(sampled)} stages" in line
    assert here == "Not by the server: critical_steps reads its traces here, in one forward pass each."
    assert server_lines(costs(ours)) == []
    total = sum(item.flops for item in costs(ours).values())
    assert sum(item.flops + item.server_flops for item in work.values()) == pytest.approx(total)


def test_a_plan_with_a_server_says_that_the_filter_is_sampled_here(sweep):
    problems = {"family": "gsm8k", "solvable": {"shots": 2}}
    policy = {"hf": "deepseek-ai/deepseek-math-7b-base"}
    loaded = sweep(problems=problems, policy=policy, evaluation={})
    _, here = server_lines(costs(in_order([recipes.evaluation(cells(loaded)[0], 0)])))
    assert here == "Not by the server: the choice of problems.solvable is sampled here."


def test_memory_and_time_are_those_of_this_projects_workers(sweep):
    loaded = sweep(resources={"hardware": [HARDWARE]})
    work = costs(planned(loaded))
    lines = estimates(work, (), {}, loaded, slots=2)
    largest = next(line for line in lines if line.startswith("  rollouts: "))
    assert "critical_steps/" in largest  # all others of the class are the server's
    time = next(line for line in lines if line.startswith("On one H100"))
    reading = sum(item.generation_flops for stage, item in work.items() if stage.kind == "critical_steps")
    assert f"{reading:.1e} of generation" in time


def test_waiting_for_teachers_is_not_divided_among_workers(sweep):
    loaded = sweep(sampler=None, evaluation={})
    stage = recipes.synthetic(cells(loaded)[0], 0)
    *_, line = estimates({stage: Cost(request_seconds=7200.0)}, (), {}, loaded, slots=4)
    assert "2 h 00 min of it waiting for the teachers' replies, about 2 h 00 min on 4 workers" in line
    trained = recipes.sft_policy(cells(loaded)[0], 0)
    *_, line = estimates({trained: Cost(training_flops=3e10 * 7200)}, (), {}, loaded, slots=4)
    assert "Estimated: 2 h 00 min of one worker, about 30 min 00 s on 4 workers" in line


def test_the_table_has_a_row_for_each_kind_and_the_waiting_in_the_teachers(sweep):
    loaded = sweep(resources={"hardware": [HARDWARE]})
    stages = planned(loaded)
    work = {stage: Cost(request_seconds=60.0) if stage.kind == "teacher" else Cost() for stage in stages}
    table = cost_table(stages, (), work, {}, loaded.resources)
    kinds, times = (list(table.columns[index].cells) for index in (0, -1))
    assert set(kinds) == {stage.kind for stage in stages}
    assert dict(zip(kinds, times, strict=True))["teacher"] == "1 min 00 s"
    assert critical_steps(cells(loaded)[0], 0).kind in kinds
