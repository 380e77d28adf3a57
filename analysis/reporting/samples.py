"""What the runs wrote and how they trained, for the report: the same problems solved by each algorithm, a pit, a pair.

In: a sweep's plan and its store. Out: `Samples`, kept as samples.json and training.csv in the results folder, from
which a report is drawn again. They show one seed, at the data size that most algorithms have, in a tie the largest.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pandas as pd
from pydantic import TypeAdapter

from analysis.tables.runs import label_axes, label_of, panel_axes, panel_of
from data import readable
from data.readable import Example, Reader
from data.records import load_problems
from data.tokens.tokenizer import tokenizer_of
from scaling.config.sweep import Sweep
from scaling.engine.store import Store
from scaling.planning.plan import Plan, Run
from scaling.planning.which_run import pit_rule
from scaling.stage import Stage

FILE, CURVES = "samples.json", "training.csv"
MOST_ALGORITHMS = 8  # shown side by side
METRICS = {  # logged metrics -> what a figure calls them
    "train/loss": "training loss",
    "train/gradient_norm": "norm of the gradient",
    "rewards/margins": "margin of rewards",
    "rewards/accuracies": "accuracy on pairs",
    "rewards/mean": "mean reward",
    "groups/without_gradient_fraction": "groups without a gradient",
    "train/entropy": "entropy per token (nats)",
}
_GROUPS = ("taught", "solved", "values", "pairs")
_EXAMPLES = TypeAdapter(tuple[Example, ...])
_COLUMNS = ["algorithm", "data_size", "seed", "update", "metric", "value"]


@dataclass(frozen=True)
class Samples:
    """Examples of one panel, data size and seed; empty where the store keeps no completions."""

    where: str = ""  # such as "data size 256, seed 6"
    taught: tuple[Example, ...] = ()  # a training problem with the teacher's solution
    solved: tuple[Example, ...] = ()  # test problems with every algorithm's greedy completion
    values: tuple[Example, ...] = ()  # a wrong rollout with the value of each step and its first pit
    pairs: tuple[Example, ...] = ()
    curves: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_COLUMNS))


def samples_in_store(sweep: Sweep, current: Plan, store: Store) -> Samples:
    """The samples of the runs in a store."""
    panel_keys, label_keys = panel_axes(sweep, current), label_axes(sweep, current)
    finished = [run for run in current.settled if store.find(run.stage) is not None]
    by_label: dict[tuple[str, int, int], dict[str, Run]] = {}
    for run in finished:
        key = (panel_of(run, panel_keys), run.cell.data_size, run.seed)
        by_label.setdefault(key, {}).setdefault(label_of(run, label_keys[run.cell.algorithm]), run)
    if not by_label:
        return Samples()
    first_panel = next(iter(by_label))[0]
    of_panel = {key: runs for key, runs in by_label.items() if key[0] == first_panel}
    (panel, data_size, seed), chosen = max(of_panel.items(), key=lambda item: (len(item[1]), item[0][1], -item[0][2]))
    runs = dict(islice(chosen.items(), MOST_ALGORITHMS))
    where = ", ".join([*([panel] if panel else []), f"data size {data_size}", f"seed {seed}"])
    any_run = next(iter(runs.values()))
    return Samples(
        where,
        tuple(_taught(any_run, store)),
        tuple(_solved(runs, store, sweep.analysis.reference)),
        tuple(_first(runs, "step_values", store, _with_pit)),
        tuple(_first(runs, "pairs", store, _pair) or _first(runs, "step_pairs", store, _pair)),
        pd.concat([_curves(label, run, store) for label, run in runs.items()], ignore_index=True),
    )


def samples_in_folder(folder: Path) -> Samples:
    """The samples that an earlier report kept; empty if the report predates them."""
    kept, curves = folder / FILE, folder / CURVES
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    groups = {name: _EXAMPLES.validate_python(found.get(name, ())) for name in _GROUPS}
    table = pd.read_csv(curves) if curves.is_file() else Samples().curves
    return Samples(found.get("where", ""), curves=table, **groups)


def write_samples(samples: Samples, directory: Path) -> None:
    """Write samples.json and training.csv; no files without samples."""
    groups = {name: [readable.as_json(example) for example in getattr(samples, name)] for name in _GROUPS}
    if any(groups.values()):
        text = json.dumps({"where": samples.where, **groups}, ensure_ascii=False, indent=1)
        (directory / FILE).write_text(text + "\n", encoding="utf-8")
    if len(samples.curves):
        samples.curves.to_csv(directory / CURVES, index=False, float_format="%.6g", lineterminator="\n")


def _taught(run: Run, store: Store) -> list[Example]:
    folders = _folders(run.by_kind, store, {"teacher": "synthetic.jsonl"})
    return [] if folders is None else list(islice(readable.solutions(_reader(run, store), *folders), 1))


def _solved(runs: Mapping[str, Run], store: Store, reference: str) -> Iterator[Example]:
    """Up to three test problems: one that only some algorithms get right, one that all do, one that none does."""
    tables: dict[str, pd.DataFrame] = {}
    held_out = _folders(next(iter(runs.values())).by_kind, store, {"problems": "test.jsonl"})
    for label, run in runs.items():
        found = _folders({"": run.stage}, store, {"": "completions.parquet"})  # older evaluations have none
        if found is None or held_out is None:
            return
        (folder,) = found
        wrong = pd.read_parquet(folder / "outcomes.parquet").set_index("problem")["wrong"]
        tables[label] = pd.read_parquet(folder / "completions.parquet").set_index("problem").assign(wrong=wrong)
    wrong = pd.DataFrame({label: table["wrong"] for label, table in tables.items()})
    number = wrong.sum(axis=1)
    wrong_at_reference = wrong[[label for label in wrong if label.partition(",")[0] == reference]].sum(axis=1)
    some = number[(number > 0) & (number < len(runs))]
    best = (wrong_at_reference - number / len(runs))[some.index]  # the reference fails, most others do not
    kinds = [best.index[best.argmax()]] if len(best) else []
    kinds += [number.index[match][0] for match in (number == 0, number == len(runs)) if match.any()]
    known = {problem.key: problem for folder in held_out or () for problem in load_problems(folder, "test")}
    readers = {label: _reader(run, store) for label, run in runs.items()}  # a checkpoint's tokenizer takes a while
    for key in kinds:
        problem, written = known[key], []
        for label, reader in readers.items():
            text = reader.tokenizer.decode(map(int, tables[label].loc[key, "tokens"]))
            written.append(reader.written(label, problem, text, not wrong.loc[key, label]))
        yield Example(str(key), problem.prompt, problem.answer, tuple(written))


def _first(
    runs: Mapping[str, Run], kind: str, store: Store, find: Callable[[Run, Mapping[str, Stage], Store], list[Example]]
) -> list[Example]:
    """What is found in the first run that has a stage of this kind."""
    for run in runs.values():
        if kind in (stages := run.by_kind):
            return find(run, stages, store)
    return []


def _with_pit(run: Run, stages: Mapping[str, Stage], store: Store) -> list[Example]:
    files = {
        "teacher": "synthetic.jsonl",
        "rollouts": "rollouts.parquet",
        "verification": "verification.parquet",
        "step_values": "step_values.parquet",
    }
    if (folders := _folders(stages, store, files)) is None:
        return []
    found = []
    teacher, rollouts, verification, step_values = folders
    for example in readable.values(_reader(run, store), teacher, rollouts, verification, step_values, pit_rule(stages)):
        for written in example.completions:
            if any(step.pit for step in written.steps):
                shown = Example(example.problem, example.prompt, example.answer, (written,))
                if not written.steps[0].pit:  # right steps before the pit show more
                    return [shown]
                found.append(shown)
    return found[:1]


def _pair(run: Run, stages: Mapping[str, Stage], store: Store) -> list[Example]:
    kind = "step_pairs" if "step_pairs" in stages else "pairs"
    folders = _folders(stages, store, {"teacher": "synthetic.jsonl", kind: "pairs.parquet"})
    return [] if folders is None else list(islice(readable.pairs(_reader(run, store), *folders), 1))


def _curves(label: str, run: Run, store: Store) -> pd.DataFrame:
    """The logged metrics of a run's last training; no rows for a policy that was not trained."""
    folder = store.find(run.trained)
    rows = (None if folder is None else readable.logged(folder)) or []
    found = [
        (label, run.cell.data_size, run.seed, row["update"], name, row[name])
        for row in rows
        for name in METRICS
        if name in row
    ]
    return pd.DataFrame(found, columns=_COLUMNS)


def _folders(stages: Mapping[str, Stage], store: Store, files: Mapping[str, str]) -> list[Path] | None:
    """The folder of a stage of each kind, each with its file; None if one is not kept, so that nothing is shown."""
    folders = []
    for kind, name in files.items():
        found = store.find(stages[kind]) if kind in stages else None
        if found is None or not (found / name).exists():
            return None
        folders.append(Path(store.local(found)))
    return folders


def _reader(run: Run, store: Store) -> Reader:
    folder = store.find(run.by_kind["pretrain"]) if run.cell.policy.hf is not None else None
    inputs = {} if folder is None else {"tokenizer": Path(store.local(folder))}
    return Reader(run.cell.problems, tokenizer_of(run.cell.problems, inputs))
