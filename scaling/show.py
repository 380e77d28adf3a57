"""Look at what a run learned from and what it wrote: `python -m scaling.show sweeps/NAME.yaml rollouts`.

In: a sweep file, which of its runs, and what to show. Out: text for a terminal, a page (`--html`) or JSON (`--json`).
Nothing is run and nothing is written but the page. What an artifact holds is read by data.readable.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined
from rich.console import Console
from rich.text import Text

import scaling.origins  # noqa: F401  (first, since it says why the others cannot be imported)
from data import readable
from data.readable import Example, Reader, about, marks
from data.records import Problem
from scaling.config.errors import ConfigError
from scaling.engine.results_dir import open_store
from scaling.engine.store import Store
from scaling.planning.plan import Run, plan
from scaling.planning.sweep_file import load_sweep
from scaling.planning.which_run import (
    add_where,
    asked_where,
    distinct,
    left_open,
    pit_rule,
    runs_with,
    stated,
    values_of,
)
from scaling.plugins import add_imports, load_plugins

# What can be shown -> the kinds of stages of which a run needs one.
WHAT: Mapping[str, tuple[str, ...]] = {
    "problems": ("problems",),
    "teacher": ("teacher",),
    "rollouts": ("rollouts",),
    "values": ("step_values",),
    "pairs": ("pairs", "step_pairs", "advantage_pairs"),
    "learned": ("positives", "good_steps", "weighted_steps", "labelled", "labelled_steps"),
    "wrong": ("evaluation",),
    "curves": ("evaluation",),  # its policy was trained, by an algorithm of this project or of a plug-in
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 shown, 2 wrong usage, no such run, or nothing stored yet."""
    arguments = _parser().parse_args(argv)
    try:
        load_plugins(arguments.imports)
        return _show(arguments)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _show(arguments: argparse.Namespace) -> int:
    sweep = load_sweep(arguments.file, arguments.set)
    store = open_store(sweep)
    current = plan(sweep, store.numbers)
    where = asked_where(arguments)
    stored = [run for run in runs_with(current.runs, where, arguments.file) if store.record(run.stage)]
    if not stored:
        which = f" with {stated(where)}" if where else ""
        raise ConfigError(
            f"no run of {arguments.file}{which} is stored in {store.root} yet; python -m scaling.sweep runs them."
        )
    run = _with_all(stored, arguments.what, current.runs)
    title = f"{arguments.what} of {stated(values_of(run))}"
    if others := left_open(stored):
        print(f"{title}. Other runs: --where with {others}.", file=sys.stderr)
    if arguments.what == "curves":
        return _curves(run, store, title, arguments)
    examples: Iterator[Example] = _examples(run, store, arguments)
    if arguments.problem is not None:
        examples = (example for example in examples if example.problem == arguments.problem)
    shown = list(itertools.islice(examples, arguments.limit))
    if not shown:
        what = "example" if arguments.problem is None else f"problem {arguments.problem!r}"
        raise ConfigError(f"{title}: there is no {what}.")
    if arguments.json:
        print(json.dumps([readable.as_json(example) for example in shown], ensure_ascii=False, indent=1))
    elif arguments.html is not None:
        _write(arguments.html, gallery(title, shown))
    else:
        console = Console(highlight=False)
        for example in shown:
            console.print(as_text(example))
    return 0


def _with_all(runs: Sequence[Run], what: str, every: Sequence[Run]) -> Run:
    """The first run whose stages have what is asked for. Raises ConfigError where none has."""
    needed = WHAT[what]
    for run in runs:
        if any(kind in run.by_kind for kind in needed):
            return run
    having = distinct(run.cell.algorithm for run in every if any(kind in run.by_kind for kind in needed))
    cure = f"give one that does, such as --algorithm {having[0]}" if having else "no algorithm of the sweep makes them"
    raise ConfigError(f"no stored run that is asked for has {what}; {cure}.")


def _examples(run: Run, store: Store, arguments: argparse.Namespace) -> Iterator[Example]:
    from data.tokens.tokenizer import tokenizer_of

    stages = run.by_kind

    def place(kind: str) -> Path:
        folder = store.find(stages[kind])
        if folder is None:
            raise ConfigError(f"{stages[kind].name} is not in {store.root}; run the sweep again to make it.")
        return Path(store.local(folder))

    def kind_of(what: str) -> str:
        return next(kind for kind in WHAT[what] if kind in stages)

    def reader() -> Reader:
        settings = run.cell.problems
        inputs = {"tokenizer": place("pretrain")} if run.cell.policy.hf is not None else {}
        return readable.Reader(settings, tokenizer_of(settings, inputs))

    def again(problems: Sequence[Problem]) -> list[str]:
        from scaling.api import load_policy

        policy = load_policy(arguments.file, values_of(run), arguments.set)
        return [item.text for item in policy.generate([problem.prompt for problem in problems])]

    ways: Mapping[str, Callable[[], Iterator[Example]]] = {
        "problems": lambda: readable.problems(place("problems"), "test"),
        "teacher": lambda: readable.solutions(reader(), place("teacher")),
        "rollouts": lambda: readable.rollouts(reader(), place("teacher"), place("rollouts"), place("verification")),
        "values": lambda: readable.values(
            reader(), place("teacher"), place("rollouts"), place("verification"), place("step_values"), pit_rule(stages)
        ),
        "pairs": lambda: readable.pairs(reader(), place("teacher"), place(kind_of("pairs"))),
        "learned": lambda: readable.learned(reader(), place("teacher"), *place(kind_of("learned")).glob("*.parquet")),
        "wrong": lambda: readable.wrong(reader(), place("problems"), "test", place("evaluation"), again),
    }
    return ways[arguments.what]()


def _curves(run: Run, store: Store, title: str, arguments: argparse.Namespace) -> int:
    """The logged metrics of the run's own training, the last of several rounds."""
    trained = run.trained
    folder = store.find(trained)
    rows = None if folder is None else readable.logged(folder)
    if rows is None:
        raise ConfigError(f"{trained.name} has no metrics.jsonl: it was not trained by this project.")
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    table, style = pd.DataFrame(rows), {"index": False, "na_rep": "", "float_format": "{:.4g}".format}
    if arguments.html is not None:
        _write(arguments.html, gallery(title, (), table.to_html(border=0, **style)))
    else:
        print(f"{title}\n{table.to_string(**style)}")
    return 0


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html {path}: {error.strerror}; name a file in a folder that exists.") from error
    print(f"Page: {path}")


# In a terminal.


def as_text(example: Example) -> Text:
    """An example for a terminal."""
    text = Text()
    text.append(f"problem {example.problem}: ", "bold").append(f"{example.prompt}\n").append(
        f"  answer: {example.answer}\n", "dim"
    )
    for written in example.completions:
        text.append(f"  {written.who}", "bold")
        if written.right is not None:
            text.append(" right" if written.right else " wrong", "green" if written.right else "red")
        text.append(f"  {about(written)}\n", "dim")
        for step in written.steps:
            text.append("    ").append(step.text.strip() or "(blank)", "red" if step.flawed else "")
            text.append(f"   {marks(step)}\n" if marks(step) else "\n", "yellow" if step.pit else "dim")
    return text


# A page.

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{ title }}</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
article { border-top: 1px solid #8884; padding: .75rem 0; }
.completions { display: flex; flex-wrap: wrap; gap: 1rem; }
section { flex: 1 1 18rem; border: 1px solid #8886; border-radius: .4rem; padding: .5rem .75rem; min-width: 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .1rem 0; }
.wrong { color: #c0392b; } .right { color: #1e8449; } .pit { background: #f1c40f55; } small { opacity: .75; }
table { border-collapse: collapse; } td { padding: .1rem .6rem; text-align: right; }
</style>
<body><h1>{{ title }}</h1>{{ table|safe }}
{% for example in examples %}
<article><h2>Problem {{ example.problem }}</h2><pre>{{ example.prompt }}</pre>
<p>Answer: <b>{{ example.answer }}</b></p><div class="completions">
{% for written in example.completions %}
{% set verdict = "" if written.right is none else "right" if written.right else "wrong" %}
<section><b>{{ written.who }}</b> <span class="{{ verdict }}">{{ verdict }}</span> <small>{{ about(written) }}</small>
{% for step in written.steps %}
<pre class="{{ "wrong" if step.flawed }} {{ "pit" if step.pit }}">
{{- step.text.strip() }} <small>{{ marks(step) }}</small></pre>
{% endfor %}
</section>
{% endfor %}
</div></article>
{% endfor %}
</body></html>
"""


def gallery(title: str, examples: Sequence[Example], table: str = "") -> str:
    """A self-contained page. table: HTML above the examples."""
    template = Environment(autoescape=True, trim_blocks=True, undefined=StrictUndefined).from_string(_PAGE)
    return template.render(title=title, examples=examples, table=table, about=about, marks=marks) + "\n"


# The command line.


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scaling.show",
        description="Show what a run learned from and what it wrote. By default the first stored run that has it.",
    )
    parser.add_argument("file", type=Path, help="the sweep, such as sweeps/quickstart.yaml")
    parser.add_argument(
        "what",
        choices=WHAT,
        help="learned: rows without pairs to train on; wrong: test problems that the policy fails; curves: training",
    )
    add_where(parser)
    parser.add_argument("--problem", metavar="ID", help="one problem, by its index or key")
    parser.add_argument("--limit", type=_count, default=5, metavar="N", help="problems or pairs, default 5")
    add_imports(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--html", type=Path, metavar="FILE", help="write a page of its own")
    form.add_argument("--json", action="store_true", help="print JSON, for programs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
