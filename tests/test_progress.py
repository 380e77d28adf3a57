"""Progress: lines for a file, a table for a terminal, and an ETA that follows from what was observed."""

import io

import pytest
from rich.console import Console
from toy_stages import toy

from scaling.engine.eta import Calibration, seconds_to_go, spoken
from scaling.engine.progress import Progress, format_failures
from scaling.stage import Stage

FAILURE = {"error": "ValueError: no", "log": "store/log.txt", "traceback": "store/traceback.txt"}


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def _progress(terminal=False):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=60)
    clock = Clock()
    return Progress(console, clock), console.file, clock


def test_each_change_is_one_line_however_long():
    progress, written, _ = _progress()
    stages = [toy(name, slug=name + "x" * 80) for name in "abcd"]
    progress.begin(stages, [toy("stored")], lambda stage: 1.0)
    progress.started(stages[0])
    progress.done(stages[0], {"wall_seconds": 3.2})
    progress.started(stages[1])
    progress.lost(stages[1], "killed\nby someone")
    progress.started(stages[1])
    progress.failed(stages[1], FAILURE)
    progress.blocked(stages[2], stages[1])
    progress.elsewhere(stages[3], None)
    progress.reused(stages[3])
    progress.end()
    lines = written.getvalue().splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [
        *("start", "done", "start", "lost", "start", "fail", "block", "elsewhere", "reuse")
    ]
    assert lines[0] == "1 stages are stored already, 4 to run."
    assert lines[-1] == "2 done / 0 running / 1 blocked / 1 failed / 0 waiting"
    assert f"{stages[1].name}  ValueError: no (log: store/log.txt)" in lines[6]


def test_without_a_terminal_the_status_line_comes_every_ten_seconds():
    progress, written, clock = _progress()
    progress.begin([toy("a"), toy("b")], [], lambda stage: 20.0)
    progress.started(toy("a"))
    for _ in range(25):
        progress.tick()
        clock.seconds += 1.0
    lines = [line for line in written.getvalue().splitlines() if "ETA" in line]
    assert [line.partition(", ")[2] for line in lines] == ["ETA 40 s", "ETA 30 s", "ETA 20 s"]  # as planned
    progress.done(toy("a"), {"wall_seconds": 25.0})
    progress.started(toy("b"))
    clock.seconds += 10.0
    progress.tick()
    assert written.getvalue().splitlines()[-1] == "1 done / 1 running / 0 blocked / 0 failed / 0 waiting, ETA 10 s"


def test_stages_that_no_execution_runs_yet_count_in_the_eta():
    first = toy("a", kind="toy")
    clock, console = Clock(), Console(file=io.StringIO(), width=60)
    progress = Progress(console, clock, later=[toy("later", first), toy("last", first)])
    progress.begin([first], [], lambda stage: 10.0)
    progress.started(first)
    progress.tick()
    assert console.file.getvalue().splitlines()[-1].endswith("0 waiting, ETA 30 s")


def test_a_terminal_shows_a_live_table():
    progress, written, clock = _progress(terminal=True)
    progress.begin([toy("a")], [], lambda stage: 1.0)
    progress.started(toy("a"))
    clock.seconds = 75.0
    progress.tick()
    progress.end()
    assert "1 min 15 s" in written.getvalue()


def test_the_eta_is_work_by_slots_but_no_less_than_the_longest_chain():
    first = toy("a", kind="toy")
    chain = toy("c", toy("b", first))
    wide = [toy(f"wide{index}") for index in range(6)]
    calibration = Calibration(lambda stage: 2.0)
    assert seconds_to_go(calibration, [first], {}, slots=1) == pytest.approx(2.0)  # as planned
    for _ in range(20):
        calibration.observe(toy("seen"), 10.0)  # 5 seconds per unit: 10 a stage
    left = [first, chain.inputs["input0"], chain]
    assert seconds_to_go(calibration, left, {}, slots=2) == pytest.approx(30.0)
    assert seconds_to_go(calibration, [*left, *wide], {}, slots=2) == pytest.approx(45.0)
    assert seconds_to_go(calibration, left, {first: 4.0}, slots=1) == pytest.approx(26.0)


def test_the_eta_uses_each_kinds_own_ratio_and_the_median_of_all_for_kinds_not_seen():
    calibration = Calibration(lambda stage: 100.0)
    for seconds in (900.0, 200.0, 220.0):  # the first one compiles
        calibration.observe(toy("a", kind="toy"), seconds)
    calibration.observe(toy("a", kind="mortal"), 1000.0)
    assert calibration.seconds(toy("b", kind="toy")) == pytest.approx(220.0)
    assert calibration.seconds(toy("b", kind="mortal")) == pytest.approx(1000.0)
    assert calibration.seconds(toy("b", kind="broken")) == pytest.approx(220.0)


def test_a_first_small_stage_does_not_tell_what_its_kind_takes_since_it_compiles():
    calibration = Calibration(lambda stage: 5.0)
    for _ in range(10):
        calibration.observe(toy("a", kind="toy"), 4.0)
    calibration.observe(toy("a", kind="mortal"), 30.0)
    assert calibration.seconds(toy("b", kind="mortal")) == pytest.approx(4.0)  # as all kinds do
    for _ in range(4):
        calibration.observe(toy("a", kind="mortal"), 8.0)
    assert calibration.seconds(toy("b", kind="mortal")) == pytest.approx(8.0)


def test_evaluations_on_validation_problems_do_not_tell_how_long_those_on_test_problems_take():
    """The first are greedy and done long before the others, which sample too."""
    greedy, sampled, other = (Stage("evaluation", {"split": split, "seed": 0}) for split in ("validation", "test", "x"))
    calibration = Calibration(lambda stage: 10.0)
    for _ in range(9):
        calibration.observe(greedy, 3.0)
        calibration.observe(toy("a", kind="toy"), 12.0)
    assert calibration.seconds(greedy) == pytest.approx(3.0)
    assert calibration.seconds(other) > 9.0  # as all stages do
    for _ in range(9):
        calibration.observe(sampled, 10.0)
    assert calibration.seconds(sampled) == pytest.approx(10.0)


def test_small_stages_do_not_tell_how_long_the_others_take():
    calibration = Calibration(lambda stage: 0.3 if stage.kind == "toy" else 100.0)
    for _ in range(9):
        calibration.observe(toy("a", kind="toy"), 3.0)  # processes start
    assert calibration.seconds(toy("b", kind="toy")) == pytest.approx(3.0)
    assert calibration.seconds(toy("b", kind="mortal")) == pytest.approx(100.0)  # as planned


def test_durations_read_well():
    assert [spoken(seconds) for seconds in (8.4, 200, 7500)] == ["8 s", "3 min 20 s", "2 h 05 min"]


def test_failures_are_one_list_of_stage_cells_error_and_log():
    lines = format_failures([(toy("a"), FAILURE)], {toy("a").digest: [f"cell {index}" for index in range(7)]})
    assert lines[0] == f"{toy('a').name}: ValueError: no"
    assert lines[1] == "  cells: cell 0; cell 1; cell 2; cell 3; cell 4 and 2 more"
    assert lines[2:] == ["  log: store/log.txt", "  traceback: store/traceback.txt"]
