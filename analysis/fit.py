"""Multipliers, curves and surfaces from anyone's table: `python -m analysis.fit TABLE ... --out DIR`.

In: outcomes of runs, or logs of lm-eval or Inspect AI (`--reference`, `--claims`), points of a curve or surface
(`--x`, `--y`, `--form`), or counts of samples and right ones (`--pass-at-k`), as CSV or parquet. Out: DIR with
fits.json, figures/, report.md and report.html. Same table and seed, same bytes. Needs neither jax nor ray;
docs/results.md explains everything.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

import analysis.origins  # noqa: F401  (first, since it says why the others cannot be imported)
from analysis.curves.laws import AUTO, LAWS
from analysis.curves.points import PointsError, Request
from analysis.curves.report import fit_points
from analysis.curves.surface import SURFACES
from analysis.page.parts import Parts
from analysis.page.rendering import Section, write_report
from analysis.page.wording import TABLE, is_paired
from analysis.reporting.conclusions import measurement, opening
from analysis.reporting.fits_file import data_hash
from analysis.reporting.report_files import PAGES, STUDY_FILES
from analysis.reporting.study_files import write_study_files
from analysis.reporting.study_sections import main_sections, prediction_section, study_sections
from analysis.tables.cells import OutcomesError
from analysis.tables.printing import label
from analysis.verdicts.outcome_file import (
    MIN_DRAWS,
    checked_pairs,
    parse_ceiling,
    parse_claims,
    parse_sizes,
    read_outcomes,
    read_table,
)
from analysis.verdicts.panel import Panel, Question, analysed, check_sense
from analysis.verdicts.study import Study
from scaling.config.errors import ConfigError
from scaling.engine.output import Output, OutputError
from scaling.plugins import add_imports, load_plugins


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, 2 wrong usage or a table that cannot be analysed."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.draws < MIN_DRAWS:
        parser.error(f"--draws is {arguments.draws}; an interval needs at least {MIN_DRAWS}.")
    if arguments.seed < 0:
        parser.error(f"--seed is {arguments.seed}; it is 0 or more.")
    has_axes = arguments.x is not None or arguments.y is not None
    if has_axes + (arguments.reference is not None) + (arguments.pass_at_k is not None) != 1:
        parser.error(
            "give one of --reference, for a table of outcomes; --x and --y, for points of a curve; and --pass-at-k,"
            " for counts of samples."
        )
    if has_axes and (arguments.x is None or arguments.y is None):
        parser.error("a curve needs both --x and --y, names of columns.")
    _check_options(parser, arguments)
    output = Output(arguments.out, "analysis.fit", ("fit.csv", *STUDY_FILES, *PAGES), inputs=(arguments.table,))
    try:
        load_plugins(arguments.imports)
        output.check()
        if arguments.reference is None:
            table = read_table(arguments.table)
            request = Request(
                _columns(arguments.x or arguments.pass_at_k, table), arguments.y, arguments.form, arguments.loss,
                arguments.weights, tuple(arguments.predict), arguments.draws, arguments.seed,
            )  # fmt: skip
            sentences = fit_points(table, arguments.table.name, request, output)
        else:
            with Console(stderr=True).status("bootstrap, fits and figures"):  # on a terminal only
                sentences = _fit_outcomes(arguments, output)
    except (ConfigError, OutputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OutcomesError, PointsError) as error:
        rows = " Rows count from 0, the first below the header." if str(error).startswith("row ") else ""
        print(f"error: {arguments.table}: {error}{rows}", file=sys.stderr)
        return 2
    for sentence in sentences:
        print(sentence)
    print(f"Report: {arguments.out / 'report.html'}")
    return 0


def _check_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Exit with 2 where an option would have no effect."""
    of_outcomes = ("claims", "ceiling", "compare", "metric", "filter", "epoch")
    unused: tuple[str, ...]
    if arguments.reference is not None:
        kind, unused = "--reference", ("form", "weights", "loss")
    elif arguments.pass_at_k is not None:
        kind, unused = "--pass-at-k", ("weights", "loss", *of_outcomes)
    else:
        kind = f"--form {arguments.form}"
        unused = of_outcomes if arguments.form in SURFACES else ("loss", *of_outcomes)
    for name in unused:
        if getattr(arguments, name) != parser.get_default(name):
            parser.error(f"--{name} has no effect with {kind}; leave it out.")


def _columns(text: str, table: pd.DataFrame) -> tuple[str, ...]:
    """The columns that an option names; one column's own name may hold commas."""
    return (text,) if text in table else tuple(name.strip() for name in text.split(","))


def _fit_outcomes(arguments: argparse.Namespace, output: Output) -> tuple[str, ...]:
    """Analyse a table of outcomes into a folder; the verdicts' sentences. Raises OutcomesError for a bad table."""
    file, reference, limits = arguments.table, arguments.reference, arguments.ceiling
    outcomes = read_outcomes(file, reference, vars(arguments))
    claimed = parse_claims(arguments.claims, outcomes.algorithms, reference)
    pairs = checked_pairs(arguments.compare, outcomes.algorithms)
    predict = parse_sizes(arguments.predict)
    question = Question(reference, claimed, arguments.draws, arguments.seed, predict=predict, compare=pairs)
    panel = analysed(outcomes, question, ceiling=parse_ceiling(limits, outcomes, reference) if limits else {})
    check_sense(panel.study)
    parts = Parts()
    with output.writing() as directory:
        write_study_files(directory, {"": panel}, question, TABLE, parts)
        found = main_sections("", panel, directory, TABLE, parts)
        found += study_sections("", panel, directory, TABLE, parts)
        origin = _provenance(panel.study, arguments)
        ahead = [one for size in question.predict for one in panel.predicted(size, question.seed)]
        found += prediction_section(ahead, reference) if question.predict else []
        write_report(
            directory, f"{file.stem}: data multipliers", [*_conclusions(panel), *parts.section(), *found, origin]
        )
    verdicts = [item for study in (panel.study, *panel.comparisons) for item in study.verdicts]
    sentences = (f"{item.sentence} {item.claim_sentence or ''}".strip() for item in verdicts)
    return (*sentences, *parts.warning())


def _conclusions(panel: Panel) -> list[Section]:
    outcomes, reference = panel.study.outcomes, panel.study.reference
    others = ", ".join(label(name) for name in outcomes.algorithms if name != reference)
    data = f"{others} against {label(reference)}: {measurement('', panel.study)}"
    if not is_paired(outcomes):
        data += (
            " The table has counts only. Which problems were wrong is not known, so that nothing is paired over"
            " problems and intervals are wider than item-level outcomes would give."
        )
    if outcomes.seed_group is not None:
        data += (
            " Some cells share no seed with others; each such group of cells draws seeds of its own, and no run is"
            " matched across groups."
        )
    return opening({"": panel}, (data,))


def _provenance(study: Study, asked: argparse.Namespace) -> Section:
    name = asked.table.name
    command = f"python -m analysis.fit {name} --reference {shlex.quote(study.reference)}"
    command += f" --claims {shlex.quote(asked.claims)}" if asked.claims else ""
    command += f" --ceiling {asked.ceiling}" if asked.ceiling else ""
    command += "".join(f" --predict {int(size)}" for size in asked.predict)
    command += "".join(f" --compare {shlex.join(pair)}" for pair in asked.compare)
    taken = {key: getattr(asked, key) for key in ("metric", "filter", "epoch")}
    command += "".join(f" --{key} {shlex.quote(str(value))}" for key, value in taken.items() if value is not None)
    command += f" --draws {asked.draws} --seed {asked.seed} --out DIR"
    return Section("Provenance", bullets=(f"data: {name}, hash {data_hash(study.outcomes)}", f"regenerate: {command}"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.fit",
        description="How many times more data would the baseline need? Or: fit a curve or a loss surface.",
        epilog="Outcomes: columns algorithm,data_size,seed,problem,wrong, or algorithm,data_size,seed,num_problems,"
        "num_wrong. Logs of lm-eval (--log_samples) or Inspect AI: a CSV with the columns file,algorithm,data_size,seed"
        " and a row for each log. Points: --x size --y error --form auto, --x N,D --y loss --form chinchilla, or"
        " --x C,N --y loss --form isoflop. Samples of each problem: --pass-at-k num_samples,num_correct.",
    )
    parser.add_argument("table", type=Path, help="a CSV or parquet file")
    add_imports(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the report goes")
    parser.add_argument("--reference", metavar="NAME", help="the algorithm that the others are compared with")
    parser.add_argument("--claims", default="", metavar="NAME=M,...", help="such as rft=2,step_dpo=8,dpo=<=1")
    parser.add_argument("--ceiling", metavar="M|D=M,...", help="largest m possible; claims above it are not tested")
    parser.add_argument(
        "--compare",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "NAME"),
        help="also compare two algorithms with each other, the second as reference; may be repeated",
    )
    parser.add_argument("--metric", metavar="NAME", help="of logs with several: lm-eval's metric, Inspect's scorer")
    parser.add_argument("--filter", metavar="NAME", help="of lm-eval's logs with several, such as strict-match")
    parser.add_argument("--epoch", type=int, metavar="N", help="of Inspect's logs with several")
    parser.add_argument("--x", metavar="COLUMN[,COLUMN]", help="size, or parameters and tokens of a surface")
    parser.add_argument("--y", metavar="COLUMN", help="error or loss")
    parser.add_argument("--pass-at-k", metavar="SAMPLES,CORRECT", help="columns with one row a problem")
    parser.add_argument(
        "--form",
        default="auto",
        metavar="FORM",
        help=f"{', '.join((*LAWS, *SURFACES))}, isoflop or a plug-in's; auto: {', '.join(AUTO)} or a plug-in's",
    )
    parser.add_argument("--weights", metavar="COLUMN", help="inverse variances, or counts; only ratios matter")
    parser.add_argument(
        "--predict",
        action="append",
        default=[],
        metavar="VALUES",
        help="such as 4096, or N=7e9,D=1e12; with intervals, also of a new run; may be repeated",
    )
    parser.add_argument("--loss", default="huber", choices=("huber", "squares"), help="of a surface; default huber")
    parser.add_argument("--draws", type=int, default=2000, metavar="N", help="bootstrap draws, default 2000")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap, default 0")
    return parser


if __name__ == "__main__":
    sys.exit(main())
