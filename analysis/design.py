"""The conclusions to expect from a sweep, before it is trained: `python -m analysis.design sweeps/NAME.yaml`.

In: a sweep file, and the results of a first run, if any. Out: design.md and design.csv under
`results/NAME/`: the expected width and coverage of every multiplier's interval, and whether its claim can be told from
half of it and from 1. With --suggest N, suggest.md and suggest.csv: which cells to add. Needs neither jax nor ray.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

import analysis.origins  # noqa: F401  (first, since it says why the others cannot be imported)
from analysis.planner.assumptions import Defaults
from analysis.planner.expected import expect
from analysis.planner.page import Page, design_page, suggestion_page
from analysis.planner.planned import Planned, by_noise, panels_of, why_not_measured
from analysis.planner.suggest import suggest
from scaling.config.errors import ConfigError
from scaling.config.sweep import Sweep
from scaling.engine.output import Output, OutputError
from scaling.engine.results_dir import open_store, results_dir
from scaling.planning.sweep_file import load_sweep
from scaling.plugins import add_imports, load_plugins

NUM_STUDIES, NUM_STUDIES_AFTER = 40, 24  # before and after a first run; its richer curve takes longer to fit
_DEFAULTS = Defaults()
_Number = TypeVar("_Number", int, float)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, 2 wrong usage or sweep file, or one that allows no interval."""
    arguments = _parser().parse_args(argv)
    console = Console(highlight=False)
    try:
        load_plugins(arguments.imports)
        sweep = load_sweep(arguments.file, arguments.set)
        output = _output(arguments, sweep)
        output.check()
        panels = panels_of(arguments, sweep)
        page = _suggestion(arguments, sweep, panels) if arguments.suggest else _design(arguments, sweep, panels)
        path = _save(page, output)
    except (ConfigError, OutputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for table in page.terminal():
        console.print(table)
    for text in (*page.sentences, page.about):
        console.print(text, soft_wrap=True, markup=False)
    console.print(f"Written: {path}", soft_wrap=True)
    return 0


def _design(arguments: argparse.Namespace, sweep: Sweep, panels: Sequence[Planned]) -> Page:
    reference, claims = sweep.analysis.reference, sweep.analysis.claims
    if arguments.by_noise:
        panels = [regime for item in panels for regime in by_noise(item, reference)]
    expected = []
    studies = [arguments.studies or (NUM_STUDIES_AFTER if item.is_measured else NUM_STUDIES) for item in panels]
    with _studies_shown(sum(studies)) as on_study:
        for item, count in zip(panels, studies, strict=True):
            settings = (count, arguments.draws, arguments.seed, on_study)
            expected.append(expect(item.grid, item.assumptions, reference, claims, *settings))
    assumed = [(item.grid, item.assumptions) for item in panels]
    command = _command(arguments, str(max(studies)))
    return design_page(arguments.file.name, assumed, expected, reference, arguments.draws, arguments.seed, command)


def _suggestion(arguments: argparse.Namespace, sweep: Sweep, panels: Sequence[Planned]) -> Page:
    if len(panels) > 1:
        raise ConfigError(
            f"{arguments.file}: --suggest plans one panel, but there are {len(panels)}"
            f" ({'; '.join(item.grid.panel for item in panels)}); fix their axis with --set."
        )
    (item,) = panels
    if not item.is_measured:
        raise ConfigError(
            f"{arguments.file}: --suggest starts from the curve of a first run, and"
            f" {why_not_measured(arguments, sweep)}"
        )
    studies = arguments.studies or NUM_STUDIES_AFTER
    settings = (arguments.suggest, studies, arguments.draws, arguments.seed)
    with _studies_shown(arguments.suggest * studies) as on_study:
        candidates = suggest(sweep, item.grid.panel, item.assumptions, open_store(sweep).numbers, *settings, on_study)
    command = _command(arguments, str(studies))
    name = arguments.file.name
    return suggestion_page(name, item.grid, item.assumptions, candidates, studies, arguments.seed, command)


@contextmanager
def _studies_shown(total: int) -> Iterator[Callable[[], None]]:
    """A bar on the error stream while studies are simulated."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulated studies", total=total)
        yield lambda: progress.advance(task)


def _command(arguments: argparse.Namespace, studies: str) -> str:
    """The command that makes the same page again."""
    parts = [f"python -m analysis.design {arguments.file}", *(f"--set '{item}'" for item in arguments.set)]
    parts += [f"--suggest {arguments.suggest}"] if arguments.suggest else []
    parts += [f"--studies {studies} --draws {arguments.draws} --seed {arguments.seed} --truth {arguments.truth}"]
    for name in ("floor", "exponent", "error", "item_sd", "run_sd"):
        if getattr(arguments, name) != getattr(_DEFAULTS, "first_error" if name == "error" else name):
            parts.append(f"--{name.replace('_', '-')} {getattr(arguments, name):g}")
    parts += ["--by-noise"] if arguments.by_noise else []
    parts += [f"--noise-from {arguments.noise_from}"] if arguments.noise_from else []
    return " ".join(parts)


def _output(arguments: argparse.Namespace, sweep: Sweep) -> Output:
    """The output beside the sweep's results. The two kinds of pages do not replace each other."""
    folder = results_dir(arguments.file, arguments.set, sweep, arguments.out)
    command, name = ("analysis.design --suggest", "suggest") if arguments.suggest else ("analysis.design", "design")
    return Output(folder, command, (f"{name}.csv", f"{name}.md"), sweep=arguments.file)


def _save(page: Page, output: Output) -> Path:
    table, text = output.names
    with output.writing() as directory:
        page.numbers.to_csv(directory / table, index=False, float_format="%.10g", lineterminator="\n")
        (directory / text).write_text(page.markdown(), encoding="utf-8")
    return output.folder / text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.design",
        description="Simulate what a sweep can be expected to show, or with --suggest which cells to add to it.",
    )
    parser.add_argument("file", type=Path, help="the sweep, such as sweeps/quickstart.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as given to scaling.sweep")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the sweep's results, as given to scaling.sweep")
    add_imports(parser)
    parser.add_argument(
        "--suggest",
        type=_whole(1, 10_000, " from 1 to 10,000"),
        metavar="N",
        help="after a first run: the N best additions, in order",
    )
    parser.add_argument(
        "--studies",
        type=_whole(1, 10_000, " from 1 to 10,000"),
        help=f"simulated studies; {NUM_STUDIES}, or {NUM_STUDIES_AFTER} if a first run gives the curve",
    )
    parser.add_argument(
        "--draws",
        type=_whole(50, 100_000, " from 50 to 100,000"),
        default=100,
        help="bootstrap draws of each study (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=_whole(0, 2**32 - 1, ", 0 or more"), default=0, help="of the simulation (%(default)s)"
    )
    parser.add_argument(
        "--truth",
        choices=("first-run", "claims", "defaults"),
        default="first-run",
        help="the assumptions: those of a first run, if any; its curve and noise with the claims for"
        " multipliers; or the defaults below in any case (%(default)s)",
    )
    parser.add_argument(
        "--floor",
        type=_real(1.0, "an error between 0 and 1"),
        default=_DEFAULTS.floor,
        help="default curve's floor (%(default)s)",
    )
    parser.add_argument(
        "--exponent",
        type=_real(20.0, "a number from 0 to 20"),
        default=_DEFAULTS.exponent,
        help="its exponent (%(default)s)",
    )
    parser.add_argument(
        "--error",
        type=_real(1.0, "an error between 0 and 1"),
        default=_DEFAULTS.first_error,
        help="at the smallest size (%(default)s)",
    )
    parser.add_argument(
        "--item-sd",
        type=_real(20.0, "a number from 0 to 20"),
        default=_DEFAULTS.item_sd,
        help="of difficulty (%(default)s)",
    )
    parser.add_argument(
        "--run-sd",
        type=_real(20.0, "a number from 0 to 20"),
        help="of run effects in logits; required without a first run",
    )
    parser.add_argument(
        "--by-noise", action="store_true", help="at run noise over luck of .5, 1, 2 and 4, each in turn"
    )
    parser.add_argument("--noise-from", type=Path, metavar="DIR", help="results/NAME of another sweep, for its noise")
    return parser


def _whole(low: int, high: int, expected: str) -> Callable[[str], int]:
    return lambda text: _number(text, int, low, high, f"a whole number{expected}")


def _real(high: float, expected: str) -> Callable[[str], float]:
    return lambda text: _number(text, float, 0.0, high, expected)


def _number(text: str, kind: Callable[[str], _Number], low: float, high: float, expected: str) -> _Number:
    value: _Number | None = None
    with suppress(ValueError):
        value = kind(text)
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"it is {text!r}; give {expected}")
    return value


if __name__ == "__main__":
    sys.exit(main())
