"""Run, plan or watch a sweep: `python -m scaling.sweep sweeps/NAME.yaml`.

In: a sweep file. Out: artifacts in the store, and a results folder with tables, figures and the report. What is stored
is not run again, so the same command starts, continues and redraws a sweep.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from rich.console import Console

import scaling.origins  # noqa: F401  (first, since it says why the others cannot be imported)
from analysis.reporting.report_files import report_output
from analysis.tables.runs import names_without_use
from scaling import tracking
from scaling.config.errors import ConfigError
from scaling.config.resources import Resources
from scaling.config.sweep import Sweep
from scaling.engine.changed import accept, changed, with_descendants
from scaling.engine.eta import spoken
from scaling.engine.interrupts import INTERRUPTED, until_stopped
from scaling.engine.jax_environment import pin, warning
from scaling.engine.output import Output, OutputError, mark_of
from scaling.engine.progress import Progress, format_failures
from scaling.engine.results_dir import make_writable, open_store
from scaling.engine.run import ClusterLost, Outage, Pool, Report, execute, needed
from scaling.engine.status import status, why_it_runs
from scaling.engine.store import Store
from scaling.kinds import kind_names, kind_of
from scaling.origins import hidden
from scaling.planning.grid import axes, narrowed
from scaling.planning.plan import Plan, plan
from scaling.planning.sweep_file import load_sweep
from scaling.planning.warnings import design_warnings
from scaling.plugins import add_imports, load_plugins
from scaling.pricing.costs import costs, observed_rates, seconds_of
from scaling.pricing.estimate import cost_table, estimates
from scaling.pricing.lengths import check_room
from scaling.stage import Stage, in_order

EXIT_FAILED, EXIT_USAGE = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 complete, 1 some stage failed, 2 wrong usage or sweep file, 3 Ray does not start, 4 it died.

    130 when stopped by Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    console = Console(highlight=False)
    try:
        load_plugins(arguments.imports)
        sweep = load_sweep(arguments.file, arguments.set)
        if arguments.only:
            sweep = narrowed(sweep, arguments.only)
        if arguments.accept:
            return accept_sources(sweep, console)
        output = report_output(arguments.file, arguments.set, sweep, arguments.out)
        if arguments.plan:
            return show_plan(sweep, output, arguments, console)
        if arguments.status:
            return show_status(sweep, output, arguments, console)
        return run(sweep, output, arguments, console)
    except (ConfigError, OutputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except Outage as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to continue.", file=sys.stderr)
        return INTERRUPTED


def run(sweep: Sweep, output: Output, arguments: argparse.Namespace, console: Console) -> int:
    """Plan and execute until every run has its settings and its evaluation, then write the report."""
    started = time.monotonic()
    if arguments.log_to:
        tracking.require(arguments.log_to)
    store = open_store(sweep)
    output.claim()
    if arguments.rerun:
        _retire(sweep, store, arguments.rerun, console)
    current = plan(sweep, store.numbers)
    lines = _headlines(arguments.file, sweep, current, store, output)
    _say(
        console,
        [*lines, *_warnings(sweep, current, arguments), *(change.line for change in changed(current.stages, store))],
    )
    reports: list[Report] = []
    shown: list[Progress] = []
    to_run, _ = needed(current.stages, store)
    check_room(to_run, arguments.file)
    if to_run:
        make_writable(store)
        if dropped := pin(os.environ):  # before Ray's processes, or jax in this one, see it
            print(f"warning: {warning(dropped)}", file=sys.stderr)
        with _watched(sweep, arguments, shown, console), _pool(sweep, store, arguments) as pool:
            timeouts = sweep.resources.timeouts
            while True:
                seconds = _estimate(current, store, sweep.resources)
                stages = _not_stopped(current.ready_stages, reports, store)
                ready = set(current.ready_stages)
                later = [stage for stage in current.stages if stage not in ready]  # of runs that wait for a choice
                shown.append(Progress(console, later=later))
                reports.append(execute(stages, store, pool, shown[-1], seconds, timeouts))
                current = plan(sweep, store.numbers)
                stages = _not_stopped(current.ready_stages, reports, store)
                if reports[-1].remaining or not needed(stages, store)[0]:
                    break
    if reports and reports[-1].remaining:
        return INTERRUPTED
    failures = [failure for report in reports for failure in report.failed]
    is_there = _write_report(arguments, console, bool(reports))
    if failures:
        console.print(f"\n{_counted(len(failures), 'stage')} failed:", style="bold red")
        _say(console, format_failures(failures, _cells_by_stage(current)))
    if is_there and arguments.log_to:
        number = tracking.log_to(arguments.log_to, output, current, store)
        console.print(f"{arguments.log_to}: {number} runs written.")
    if failures:
        return EXIT_FAILED
    console.print(f"Finished in {spoken(time.monotonic() - started)}.")
    return 0


def show_plan(sweep: Sweep, output: Output, arguments: argparse.Namespace, console: Console) -> int:
    """Print what would run, what is stored, why, and the estimated cost. Writes nothing."""
    store = open_store(sweep)
    output.check()
    for stage in with_descendants(plan(sweep, store.numbers).stages, arguments.rerun):
        store.distrust(stage)
    current = plan(sweep, store.numbers)
    _say(console, [*_headlines(arguments.file, sweep, current, store, output), *_warnings(sweep, current, arguments)])
    to_run, _ = needed(current.stages, store)
    check_room(to_run, arguments.file)
    stored = [stage for stage in current.stages if store.find(stage)]
    lines = [
        f"Stages: {current.num_named} named, {len(current.stages)} distinct, {len(stored)} stored,"
        f" {len(to_run)} to run."
    ]
    if current.waiting:
        lines.append(
            f"{len(current.waiting)} of {len(current.runs)} runs wait for settings that selection has not chosen yet;"
            " candidates from the middle of their lists stand in here."
        )
    _say(console, lines)
    work, rates = costs(to_run, stored), _rates(current, store)
    console.print(cost_table(current.stages, stored, work, rates, sweep.resources))
    changes = [change.line for change in changed(current.stages, store)]
    plain = report_output(arguments.file, (), sweep, arguments.out)  # where its runs without --set go
    has_run = any(mark_of(folder) is not None for folder in (output.folder, plain.folder))
    _say(console, changes + _reasons(to_run, store, has_run))
    _say(console, estimates(work, stored, rates, sweep, _num_slots(sweep)))
    if not (sweep.resources.hardware or arguments.address or arguments.inline):
        from scaling.engine.placement import lacking

        _say(console, [f"warning: {line}" for line in lacking(sweep.resources.amounts)])
    return 0


def show_status(sweep: Sweep, output: Output, arguments: argparse.Namespace, console: Console) -> int:
    """Print what is done, running, failed, blocked and waiting, from any terminal."""
    store = open_store(sweep)
    current = plan(sweep, store.numbers)
    lines = _headlines(arguments.file, sweep, current, store, output) + status(current.stages, store).lines()
    _say(console, [*lines, *(change.line for change in changed(current.stages, store))])
    return 0


def accept_sources(sweep: Sweep, console: Console) -> int:
    """Take what is stored as computed by today's sources, from now on."""
    store = open_store(sweep)
    changes = changed(plan(sweep, store.numbers).stages, store)
    if not changes:
        console.print("Nothing to accept: every stored stage was computed by today's sources, as far as records tell.")
        return 0
    make_writable(store)
    accept(changes, store)
    _say(console, [f"{change.kind}: {len(change.stages)} stored stages are taken as they are." for change in changes])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scaling.sweep",
        description="Run a sweep, or continue it: what is stored is not run again. Results go to results/NAME in the"
        " current folder, unless --out or the key results of the file names another.",
        epilog="docs/sweeps.md explains every key of a sweep file.",
    )
    parser.add_argument("file", type=Path, help="the sweep, such as sweeps/quickstart.yaml")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--plan", action="store_true", help="print what would run and its estimated cost; write nothing")
    mode.add_argument("--status", action="store_true", help="print what is done, running, blocked and failed")
    mode.add_argument(
        "--accept",
        action="store_true",
        help="take stored stages as they are, though the sources that computed them differ from today's",
    )
    parser.add_argument(
        "--rerun",
        action="append",
        default=[],
        metavar="KIND",
        choices=sorted(kind_names()),
        help="run the stages of a kind, such as sft, and all that is computed from them, once more",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="run a part of the grid, such as algorithm=rft,data_size=64; the report says what is missing",
    )
    parser.add_argument("--address", help="an existing Ray cluster: auto, or ray://HOST:PORT; default: this machine")
    parser.add_argument("--inline", action="store_true", help="run the stages in this process, for a debugger")
    parser.add_argument(
        "--watch",
        type=_port,
        metavar="PORT",
        help="serve a live page on this machine while the sweep runs; 0: any free port",
    )
    parser.add_argument(
        "--log-to", choices=sorted(tracking.TRACKERS), help="write finished runs, with their curves, to a tracker"
    )
    add_imports(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the results go")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key of the file, such as rft.max_positives=32; the results go to a directory named after it",
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, from 0 to 65535")
    return int(text)


def _say(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def _retire(sweep: Sweep, store: Store, kinds: Sequence[str], console: Console) -> None:
    """Take the artifacts of these kinds, and of what is computed from them, out of the store."""
    make_writable(store)
    number = sum(store.retire(stage) for stage in with_descendants(plan(sweep, store.numbers).stages, kinds))
    line = (
        f"{number} stored stages run again ({', '.join(kinds)} and what is computed from them); their artifacts are in"
        f" {store.root / 'quarantine'}. After an interruption go on without --rerun."
    )
    _say(console, [line])


@contextmanager
def _watched(
    sweep: Sweep, arguments: argparse.Namespace, shown: Sequence[Progress], console: Console
) -> Iterator[None]:
    """Serve the live page, if it is asked for, while the stages run."""
    if arguments.watch is None:
        yield
        return
    from scaling.watch import watched

    def now() -> str:
        return shown[-1].status_line() if shown else "Starting."

    with watched(sweep, open_store(sweep), arguments.watch, now) as address:
        console.print(f"Watch: {address}", soft_wrap=True, markup=False)
        yield


def _pool(sweep: Sweep, store: Store, arguments: argparse.Namespace) -> AbstractContextManager[Pool[Any]]:
    if arguments.inline:
        from scaling.engine.inline import InlinePool

        return InlinePool(store, memory=sweep.memory, meshes=sweep.resources.meshes)
    problem = hidden([os.getcwd()])
    if problem is not None:
        raise ConfigError(f"Ray's workers look for modules in the current folder. {problem}")
    # Ray takes a second to import; plans, status and inline runs do without it.
    from scaling.engine.pool import RayPool

    resources = sweep.resources
    return RayPool(
        store.root, store.shipped, resources.amounts, arguments.address,
        memory=sweep.memory, meshes=resources.meshes, hosts=resources.hosts.model_dump(),
    )  # fmt: skip


def _not_stopped(stages: Sequence[Stage], reports: Sequence[Report], store: Store) -> list[Stage]:
    """The stages, inputs first, without those that failed in earlier rounds and those that need one of them."""
    stopped = {stage for report in reports for stage in (*report.blocked, *(failed for failed, _ in report.failed))}
    for stage in stages:
        if stopped.intersection(stage.inputs.values()) and store.find(stage) is None:
            stopped.add(stage)
    return [stage for stage in stages if stage not in stopped]


def _headlines(file: Path, sweep: Sweep, current: Plan, store: Store, output: Output) -> list[str]:
    varied = ", ".join(axes(sweep))
    search = f", and {len(current.search_runs)} runs to choose settings" if sweep.select else ""
    return [
        f"{file}: {_counted(len(current.runs), 'run')} over {varied} and {_counted(len(sweep.seeds), 'seed')}{search}.",
        f"Store: {store.root}",
        f"Results: {output.folder}",
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _estimate(current: Plan, store: Store, resources: Resources) -> Callable[[Stage], float]:
    work, rates = costs(current.stages), _rates(current, store)
    return lambda stage: seconds_of(stage, work[stage], rates, resources)


def _rates(current: Plan, store: Store) -> dict[str, float]:
    stored = [(stage, store.record(stage)) for stage in current.stages]
    found = [(stage, record) for stage, record in stored if record is not None and not kind_of(stage.kind).makes_base]
    return observed_rates([stage for stage, _ in found], [record for _, record in found])


def _warnings(sweep: Sweep, current: Plan, arguments: argparse.Namespace) -> list[str]:
    """About the design of a whole sweep; that a part of one shows less is known."""
    found = [] if arguments.only else [*design_warnings(sweep, current), *names_without_use(sweep, current)]
    return [f"warning: {line}" for line in found]


def _reasons(to_run: Sequence[Stage], store: Store, has_run: bool) -> list[str]:
    """Why stages run, those that are not simply new, equal reasons counted once.

    Unless the sweep has run before, a stored stage with other settings is another study's, and explains nothing.
    """
    counted = Counter((stage.kind, why_it_runs(stage, store, compare=has_run)) for stage in to_run)
    lines = [
        f"  {kind}, {_counted(count, 'stage')}: {reason}"
        for (kind, reason), count in counted.items()
        if reason != "new"
    ]
    new = sum(count for (_, reason), count in counted.items() if reason == "new")
    header = [f"{new} of the stages to run are new to this store."] if new else []
    return header + (["These run again:", *lines] if lines else [])


def _num_slots(sweep: Sweep) -> int:
    from scaling.engine.placement import usable_cores

    cpu = max(dict(amounts).get("cpu", 1.0) for amounts in sweep.resources.amounts.values())
    return max(1, int(len(usable_cores()) / cpu))


def _cells_by_stage(current: Plan) -> dict[str, list[str]]:
    """Digest of a stage -> names of the runs that need it."""
    named = [(run_, run_.name) for run_ in current.runs]
    for choice in current.choices:
        for candidate in choice.candidates:
            settings = ", ".join(f"{choice.algorithm}.{key}={value}" for key, value in candidate.settings.items())
            named += [(run_, f"candidate {settings} of {run_.name}") for run_ in candidate.runs]
    names: dict[str, list[str]] = {}
    for run_, name in named:
        for stage in in_order(run_.targets):
            names.setdefault(stage.digest, []).append(name)
    return names


def _write_report(arguments: argparse.Namespace, console: Console, changed: bool) -> bool:
    """Whether there is a report, new or as it was."""
    from analysis.report import is_current, report

    if not changed and (path := is_current(arguments.file, arguments.set, arguments.out)):
        console.print(f"Nothing is left to run, and the report is up to date: {path}", soft_wrap=True)
        return True
    summary = report(arguments.file, arguments.set, arguments.out)
    if summary is None:
        console.print("No run has finished, so there is no report yet.")
        return False
    console.print(summary.table)
    _say(console, [*summary.sentences, f"Report: {summary.path}"])
    return True


def _command() -> int:
    """The command itself, with an exit status for each signal; on a terminal of few letters too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a stage's error may have letters that it cannot show
    status = until_stopped(main)
    # Ray's own end would wait for a lost cluster. The interpreter's end takes from the threads of jax and Ray what they
    # work with, which an interruption leaves running: a segmentation fault.
    if status == ClusterLost.exit_status or (status >= INTERRUPTED and {"jax", "ray"} & sys.modules.keys()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(_command())
