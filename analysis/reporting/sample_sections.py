"""The report's part on what was run: the setting in a table, samples of what policies wrote, and how they trained.

In: a sweep's plan and its `Samples`. Out: `Section`s, and the figure of training in `directory`/figures.
"""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.looks import looks
from analysis.figures.overview import save
from analysis.figures.style import HEIGHT, WIDTH, legend_above, pictures, styled
from analysis.page.rendering import Group, Line, Sample, Section, TextTable, picture
from analysis.reporting.samples import METRICS, Samples
from analysis.tables.printing import label
from data.readable import Example, Written, about, marks
from scaling.config.sweep import Sweep
from scaling.planning.plan import Plan


def what_was_run(file: Path, sweep: Sweep, current: Plan, samples: Samples) -> list[Section]:
    """The setting of the sweep, for a reader who has not seen its file."""
    cells = [run.cell for run in current.runs]
    policies = dict.fromkeys(cell.policy.hf or f"{cell.policy.size}, {cell.policy.base}" for cell in cells)
    sizes = sorted({cell.data_size for cell in cells})
    rows = [
        ("problems", ", ".join(dict.fromkeys(cell.problems.family for cell in cells))),
        *(("a problem", example.prompt) for example in samples.taught),
        *(("its answer", example.answer) for example in samples.taught),
        *(("the teacher's solution", _in_one_line(example)) for example in samples.taught),
        ("policy", "; ".join(policies)),
        ("algorithms", ", ".join(label(name) for name in dict.fromkeys(cell.algorithm for cell in cells))),
        ("data sizes", ", ".join(f"{size:,}" for size in sizes)),
        ("seeds", ", ".join(map(str, sweep.seeds))),
        ("test problems", ", ".join(sorted({f"{cell.problems.num_test:,}" for cell in cells}))),
        ("sweep file", file.name),
    ]
    return [Section("What was run", tables=(TextTable(("", ""), tuple(rows)),))]


def sample_sections(samples: Samples) -> list[Section]:
    """What the policies wrote, right and wrong; empty if the store kept no completions."""
    groups = [
        *(Group(f"{_asked(example)} Greedy completions:", _shown(example)) for example in samples.solved),
        *(Group(f"{_asked(example)} Values of the steps of a rollout:", _shown(example)) for example in samples.values),
        *(Group(f"{_asked(example)} A preference pair:", _shown(example)) for example in samples.pairs),
    ]
    if not groups:
        return []
    text = (
        f"Of {samples.where}. Q of a step is how often continuations from there end right, A what the step adds to it;"
        " the first pit is the first step with the lowest Q. python -m scaling.show shows more."
    )
    return [Section("Samples", (text,), groups=tuple(groups))]


def training_sections(samples: Samples, directory: Path, reference: str) -> list[Section]:
    """Loss, gradient norm and, for learners from pairs, margins and accuracies, of every algorithm."""
    if samples.curves.empty:
        return []
    file = "figures/training.png"
    save(_training_figure(samples.curves, reference), directory / file)
    caption = f"Training of {samples.where}; of several rounds the last. Means over windows of updates; training.csv."
    return [Section("Training", figures=(picture(directory, file, caption),))]


def _training_figure(curves: pd.DataFrame, reference: str) -> Figure:
    """One picture per metric, one line per algorithm, against the share of its updates."""
    metrics = [name for name in METRICS if name in set(curves["metric"])]
    of = looks(list(dict.fromkeys(curves["algorithm"])), reference)
    with styled():
        figure, row = pictures(len(metrics), (max(WIDTH, 0.62 * WIDTH * len(metrics)), HEIGHT))
        for axes, metric in zip(row, metrics, strict=True):
            of_metric = curves[curves["metric"] == metric]
            for name in of:
                part = of_metric[of_metric["algorithm"] == name]
                if len(part):
                    at = part["update"] / part["update"].max()
                    axes.plot(at, part["value"], color=of[name].colour, linestyle=of[name].dash, label=of[name].name)
            axes.set_xlabel("share of the updates")
            axes.set_ylabel(METRICS[metric])
        legend_above(figure)
        return figure


def _asked(example: Example) -> str:
    return f"{example.prompt} (answer {example.answer})."


def _shown(example: Example) -> tuple[Sample, ...]:
    return tuple(_sample(written) for written in example.completions)


def _sample(written: Written) -> Sample:
    mark = "" if written.right is None else "right" if written.right else "wrong"
    title = ", ".join(part for part in (label(written.who), mark, about(written)) if part)
    lines = (
        Line(step.text.strip(), marks(step), "pit" if step.pit else "wrong" if step.flawed else "")
        for step in written.steps
    )
    return Sample(title, tuple(lines), mark)


def _in_one_line(example: Example) -> str:
    return " ".join(step.text.strip() for written in example.completions for step in written.steps)
