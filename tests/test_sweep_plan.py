"""The command line of a sweep before it runs: help, plans, status, and arguments and files that are wrong."""

from pathlib import Path

import pytest
from toy_sweep import counts, everything_below

from scaling import sweep
from scaling.engine import placement


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        sweep.main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for option in (
        "--plan",
        "--status",
        "--address",
        "--inline",
        "--only KEY=VALUE",
        "--set KEY=VALUE",
        "docs/sweeps.md",
    ):
        assert option in shown


def test_plan_counts_stages_and_writes_nothing(tiny, tmp_path, toys, capsys):
    file = tiny()
    before = everything_below(tmp_path)
    assert sweep.main([file, "--plan"]) == 0
    assert everything_below(tmp_path) == before
    assert toys.ran == []
    found = counts(capsys.readouterr().out)
    # Base policy and problems once; a seed has 4 of D_syn, SFT, rollouts, verification; 2 of RFT, 2 of DPO, 3 of
    # per-step DPO, and 4 evaluations; the base policy is evaluated once.
    assert found["distinct"] == 2 + 2 * (4 + 2 + 2 + 3 + 4) + 1
    assert found["to run"] == found["distinct"]
    assert found["stored"] == 0
    # Without sharing: each run also has the base policy and the problems; SFT needs 2 stages besides them and the
    # evaluation, the others 4 and their own 2, 2 and 3; the base policy's evaluation needs 3 stages in all.
    assert found["named"] == 2 * (3 * 4 + 2 + (4 + 2) + (4 + 2) + (4 + 3)) + 3


def test_after_a_run_the_plan_finds_everything_stored_and_still_writes_nothing(tiny, tmp_path, toys, capsys):
    file = tiny()
    assert sweep.main([file]) == 0
    capsys.readouterr()
    before = everything_below(tmp_path)
    assert sweep.main([file, "--plan"]) == 0
    assert everything_below(tmp_path) == before
    found = counts(capsys.readouterr().out)
    assert found["stored"] == found["distinct"] > 0
    assert found["to run"] == 0


def test_plan_says_why_stored_stages_run_again(tiny, toys, capsys):
    assert sweep.main([tiny()]) == 0
    assert sweep.main([tiny(), "--plan", "--set", "sft.epochs=7"]) == 0
    assert "sft, 2 stages: config.sft.epochs 5 -> 7" in capsys.readouterr().out


def test_status_counts_before_and_after(tiny, toys, capsys):
    file = tiny()
    assert sweep.main([file, "--status"]) == 0
    assert "0 done / 0 running / 0 blocked / 0 failed / 33 waiting" in capsys.readouterr().out
    assert sweep.main([file]) == 0
    capsys.readouterr()
    assert sweep.main([file, "--status"]) == 0
    assert "0 running / 0 blocked / 0 failed / 0 waiting" in capsys.readouterr().out


def test_set_changes_the_sweep_that_runs(tiny, toys, capsys):
    file = tiny()
    assert sweep.main([file, "--set", "grid.data_size=[8,16]", "--set", "seeds=[5]", "--plan"]) == 0
    assert "8 runs over algorithm, data_size and 1 seed." in capsys.readouterr().out
    assert sweep.main([file, "--set", "grid.algorithm=[sft]", "--set", "analysis.reference=sft"]) == 0
    assert set(toys.ran) == {"pretrain", "problems", "teacher", "sft", "evaluation"}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nowhere.yaml"], "nowhere.yaml does not exist"),
        (["{file}", "--set", "sft.epoch=3"], "unknown key 'sft.epoch'. Did you mean 'sft.epochs'?"),
        (["{file}", "--set", "sft.epochs"], "write it as dotted.key=value"),
        (["{file}", "--set", "grid.data_size=[1000000]"], "data_size is 1000000"),
    ],
)
@pytest.mark.parametrize("mode", [[], ["--plan"], ["--status"]])
def test_a_wrong_sweep_gives_exit_two_and_one_line_before_anything_starts(
    tiny, tmp_path, toys, capsys, arguments, part, mode
):
    file = tiny()
    before = everything_below(tmp_path)
    assert sweep.main([*(argument.format(file=file) for argument in arguments), *mode]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert part in shown.err
    assert shown.err.count("\n") == 1
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("arguments", [[], ["{file}", "--plan", "--status"], ["{file}", "--plam"]])
def test_wrong_usage_gives_exit_two(tiny, arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        sweep.main([argument.format(file=tiny()) for argument in arguments])
    assert stopped.value.code == 2
    assert "usage: python -m scaling.sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("amounts", "part"),
    [({"gpu": 1.5}, "train.gpu is 1.5"), ({}, "train requests nothing")],
)
def test_resources_that_no_worker_can_have_give_exit_two(tiny, tmp_path, capsys, amounts, part):
    assert sweep.main([tiny(resources={"train": amounts})]) == 2
    assert part in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_only_runs_a_part_of_the_grid(tiny, toys, capsys):
    file = tiny(grid={"algorithm": ["sft", "rft"], "data_size": [8, 16]})
    assert sweep.main([file, "--plan", "--only", "algorithm=rft,data_size=8", "--only", "seed=1"]) == 0
    assert "1 run over algorithm, data_size and 1 seed." in capsys.readouterr().out.replace("\n", " ")
    sizes = []
    toys.before = lambda kind, config: sizes.append(config["data_size"]) if kind == "teacher" else None
    assert sweep.main([file, "--inline", "--only", "algorithm=sft,algorithm=rft,data_size=16"]) == 0
    assert sizes == [16, 16] and toys.ran.count("rft") == toys.ran.count("sft") == 2


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("algorithm", "--only algorithm: expected KEY=VALUE"),
        (
            "data_size=[8,16]",
            "--only data_size=[8: '[8' is not YAML; close its brackets and quotes, and give one value",
        ),
        ("rounds=2", "--only rounds: the grid varies seed, algorithm, data_size"),
        ("data_size=9", "--only data_size=9: the sweep has 8; give one of these"),
        ("algorithm=dpo", "--only algorithm=dpo: the sweep has sft, rft"),
    ],
)
def test_a_part_that_the_grid_does_not_have_is_refused(tiny, only, message, capsys):
    file = tiny(grid={"algorithm": ["sft", "rft"], "data_size": [8]})
    assert sweep.main([file, "--plan", "--only", only]) == 2
    assert message in capsys.readouterr().err


def test_a_part_without_an_algorithm_of_a_claim_is_planned_and_run(tiny, toys, capsys):
    file = tiny(grid={"algorithm": ["sft", "rft"], "data_size": [8, 16]}, analysis={"claims": {"rft": 2}})
    assert sweep.main([file, "--plan", "--only", "algorithm=sft"]) == 0
    assert sweep.main([file, "--inline", "--only", "algorithm=sft"]) == 0
    assert set(toys.ran) == {"pretrain", "problems", "teacher", "sft", "evaluation"}


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_is_a_number_that_ports_have(tiny, port, capsys):
    with pytest.raises(SystemExit) as stopped:
        sweep.main([tiny(), "--watch", port])
    assert stopped.value.code == 2 and f"{port!r} is not a port" in capsys.readouterr().err


def test_a_grid_without_the_key_is_left_out(tiny, capsys):
    grids = [{"algorithm": ["sft"], "data_size": [8]}, {"algorithm": ["rft"], "data_size": [8], "rounds": [1, 2]}]
    assert sweep.main([tiny(grid=grids), "--plan", "--only", "rounds=2"]) == 0
    assert "2 runs over" in capsys.readouterr().out
    assert sweep.main([tiny(grid=grids), "--plan", "--only", "rounds=2,algorithm=sft"]) == 2
    assert "no grid of the sweep combines these values" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("resources.train.gpu=1", "resources.train asks for gpu 1, but this machine has 0"),
        ("resources.host.cpu=999", "cpu 999"),
    ],
)
def test_a_plan_warns_of_resources_that_this_machine_lacks(tiny, capsys, monkeypatch, setting, said):
    monkeypatch.setattr(placement, "DEVICES", Path("/nowhere"))  # also where the tests run beside a GPU
    assert sweep.main([tiny(), "--plan", "--set", setting]) == 0
    assert said in (shown := capsys.readouterr().out) and "will not run here" in shown
    assert sweep.main([tiny(), "--plan", "--address", "auto", "--set", setting]) == 0
    assert "this machine has" not in capsys.readouterr().out
    assert sweep.main([tiny(), "--plan"]) == 0
    assert "this machine has" not in capsys.readouterr().out
