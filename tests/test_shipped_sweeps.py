"""Every sweep of modular sums that comes with the repository, made tiny, runs to its report.

The settings are those of the file, so that each stage gets the config that its recipe gives it in a real run; only
sizes are small: one seed, one value of each axis, few problems and updates.
"""

from pathlib import Path

import pytest
import yaml

from scaling import sweep as command

SWEEPS = Path(__file__).parents[1] / "sweeps"
# A star graph's policy has nothing to learn from before its base policy was trained for minutes, a ledger's for hours.
NAMES = sorted(file.stem for file in SWEEPS.glob("*.yaml") if "family: modular_sum" in file.read_text())
IN_CI = ("paper_collapse", "paper_critical_steps", "paper_learners")  # between them they have every kind of stage
SMALL = {"epochs": 1, "iterations": 1, "num_updates": 2, "teacher_updates": 2, "num_test": 8, "num_validation": 4}
SMALL["problems"] = 8  # of evaluation.critical_steps


def shrunk(value, key=""):
    """The same settings with small numbers."""
    last = key.rpartition(".")[2]
    if isinstance(value, dict):
        return {name: shrunk(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [shrunk(item, key) for item in value]
    return SMALL.get(last, value)


def tiny(name, folder):
    settings = shrunk(yaml.safe_load((SWEEPS / f"{name}.yaml").read_text()))
    grids = settings["grid"] if isinstance(settings["grid"], list) else [settings["grid"]]
    settings["grid"] = [{axis: values[:1] for axis, values in grid.items()} | {"data_size": [8]} for grid in grids]
    settings["seeds"] = settings["seeds"][:1]
    settings["problems"] |= {"num_test": 8, "num_validation": 4}
    if "select" in settings:
        settings["select"] = {
            key: values[:1] if key == "seeds" else {axis: found[:1] for axis, found in values.items()}
            for key, values in settings["select"].items()
            if key != "data_size"
        }
    settings["analysis"] = {"reference": settings["analysis"]["reference"]}
    settings |= {"store": str(folder / "store"), "results": str(folder / "results")}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in IN_CI else pytest.mark.long) for name in NAMES]
)
def test_it_runs_to_its_report(name, tmp_path, capsys):
    status = command.main([str(tiny(name, tmp_path)), "--inline"])
    shown = capsys.readouterr()
    assert status == 0, shown.out[-4000:] + shown.err
    assert (tmp_path / "results" / "report.html").is_file()
