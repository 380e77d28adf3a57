"""Write a sweep's runs to a tracker: `python -m scaling.sweep FILE --log-to tensorboard|wandb|mlflow`.

In: the runs.csv of a report and the metrics that training logged, from the store. Out: one run of the tracker for each
run that is done, with its settings, its curves, its test error and its costs, through the tracker's own library.
A run is written once: logged.csv in the results folder lists what was written where.
"""

import importlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.readable import logged
from scaling.config.errors import ConfigError
from scaling.engine.output import Output
from scaling.engine.store import Store
from scaling.planning.plan import Plan

FILE = "logged.csv"
_NOT_NUMBERS = ("panel", "algorithm", "status", "stage", "failure")


@dataclass(frozen=True)
class Tracked:
    """One run, as a tracker sees it."""

    name: str  # of its evaluation, which ends with a digest of all it was computed from
    settings: Mapping[str, Any]  # panel, algorithm, data_size, seed, dotted keys of the sweep file
    curves: Sequence[Mapping[str, Any]]  # what its last training logged; `update` counts updates
    numbers: Mapping[str, float]  # error, pass@k, costs


def require(tracker: str) -> None:
    """Raise ConfigError, before hours of work, where the tracker's library is missing."""
    try:
        importlib.import_module({"tensorboard": "tensorboardX"}.get(tracker, tracker))
    except ImportError as error:
        raise ConfigError(
            f"--log-to {tracker}: {error.name} is not installed; install the extra: pip install -e '.[tracking]'."
        ) from error


def log_to(tracker: str, results: Output, current: Plan, store: Store) -> int:
    """Write the runs that a report calls done and that were not written before; returns their number."""
    own = Output(results.folder, "scaling.sweep --log-to", (FILE,), sweep=results.sweep)
    own.check()
    path = results.folder / FILE
    before = pd.read_csv(path) if path.exists() else pd.DataFrame({"tracker": [], "stage": []})
    known = set(before["stage"][before["tracker"] == tracker])
    new = list(tracked(results.folder, current, store, known))
    written: list[str] = []
    if new:
        try:
            for run in new:
                TRACKERS[tracker](results.folder, run)
                written.append(run.name)
        finally:  # what an error leaves is written the next time, and only that
            rows = pd.DataFrame({"tracker": tracker, "stage": written})
            with own.writing() as fresh:
                pd.concat([before, rows]).to_csv(fresh / FILE, index=False, lineterminator="\n")
    return len(written)


def tracked(results: Path, current: Plan, store: Store, known: Collection[str]) -> Iterator[Tracked]:
    """The runs that a report calls done, in its order, without those of known names."""
    table = pd.read_csv(results / "runs.csv", dtype={"panel": str, "algorithm": str})
    trained = {on.stage.name: on.trained for run in current.runs for on in run.on_each_set().values()}
    for row in table[(table["status"] == "done") & ~table["stage"].isin(known)].to_dict("records"):
        found = {key: value for key, value in row.items() if pd.notna(value)}
        keys = [key for key in found if key in ("panel", "algorithm", "data_size", "seed") or "." in key]
        numbers = {key: float(found[key]) for key in found if key not in (*keys, *_NOT_NUMBERS)}
        folder = store.find(trained[row["stage"]])
        curves = (logged(folder) or []) if folder is not None else []
        yield Tracked(row["stage"], {key: found[key] for key in keys}, curves, numbers)


# The trackers: each writes one run, given the results folder.


def _tensorboard(results: Path, run: Tracked) -> None:
    """Event files in results/tensorboard/NAME: `tensorboard --logdir results/tensorboard`."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(os.fspath(results.parent / "tensorboard" / results.name / run.name)) as writer:
        for update, values in _curves(run):
            for key, value in values.items():
                writer.add_scalar(key, value, update)
        settings = {key: value if isinstance(value, int | float) else str(value) for key, value in run.settings.items()}
        writer.add_hparams(settings, dict(run.numbers), name="settings")


def _wandb(results: Path, run: Tracked) -> None:
    """A project named after the results; WANDB_MODE, WANDB_ENTITY and the like hold."""
    import wandb

    name = run.name.rpartition("/")[2]
    with wandb.init(project=results.name, id=name, name=run.name, config=dict(run.settings), resume="allow") as one:
        for update, values in _curves(run):
            one.log(values, step=update)
        one.summary.update(dict(run.numbers))


def _mlflow(results: Path, run: Tracked) -> None:
    """An experiment named after the results, at MLFLOW_TRACKING_URI."""
    import mlflow

    experiment = mlflow.set_experiment(results.name).experiment_id
    with mlflow.start_run(experiment_id=experiment, run_name=run.name):
        mlflow.log_params(dict(run.settings))
        for update, values in _curves(run):
            mlflow.log_metrics(values, step=update)
        mlflow.log_metrics(dict(run.numbers))


TRACKERS = {"mlflow": _mlflow, "tensorboard": _tensorboard, "wandb": _wandb}


def _curves(run: Tracked) -> Iterator[tuple[int, dict[str, float]]]:
    for row in run.curves:
        yield int(row["update"]), {key: float(value) for key, value in row.items() if key != "update"}
