"""Redraw everything of a sweep from its store: `python -m analysis.report sweeps/NAME.yaml`. Needs neither jax nor ray.

In: a sweep file and its store. Out: `results/NAME/` with runs.csv, outcomes.parquet, choices.csv, ledger.csv,
errors.csv, multipliers.csv, fits.json, figures/, report.md and report.html. Same store and seed, same bytes.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
from rich.console import Console, Group
from rich.table import Column, Table
from rich.text import Text

import analysis.origins  # noqa: F401  (first, since it says why the others cannot be imported)
from analysis.figures.overview import error_table
from analysis.measures.sections import more_sections
from analysis.page.parts import Parts
from analysis.page.rendering import write_csv, write_report
from analysis.page.wording import SWEEP
from analysis.reporting.conclusions import MULTIPLIER, summary, where
from analysis.reporting.fits_file import SCHEMA_VERSION
from analysis.reporting.material import PROVENANCE, Material, material_in_folder, material_in_store
from analysis.reporting.report_files import report_output
from analysis.reporting.results_folder import ResultsError
from analysis.reporting.samples import samples_in_folder, write_samples
from analysis.reporting.sections import Story, sections
from analysis.reporting.study_files import write_study_files
from analysis.tables.ceilings import ceilings_of
from analysis.tables.outcomes import from_table
from analysis.tables.printing import Printing, printing
from analysis.tables.selection import moves_of
from analysis.verdicts.compute import costs_by_cell
from analysis.verdicts.panel import Panel, Question, analysed
from analysis.verdicts.study import Study
from scaling.config.errors import ConfigError
from scaling.config.sweep import Sweep
from scaling.engine.output import Output, OutputError, mark_of
from scaling.engine.provenance import PROJECT
from scaling.engine.results_dir import open_store
from scaling.engine.store import Store
from scaling.planning.plan import Plan, plan
from scaling.planning.sweep_file import load_sweep
from scaling.plugins import add_imports, load_plugins, loaded_plugins
from scaling.sources import sources_digest


@dataclass(frozen=True)
class Summary:
    """What the command line shows of a report."""

    path: Path  # report.html
    table: Group  # a table a panel
    sentences: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, 1 nothing to report yet, 2 wrong usage or sweep file."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report",
        description="Redraw tables, fits, figures and the report of a sweep from what its store holds.",
    )
    parser.add_argument("file", type=Path, help="the sweep, such as sweeps/quickstart.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as given to scaling.sweep")
    add_imports(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the report goes, as given to scaling.sweep")
    parser.add_argument(
        "--from-results",
        action="store_true",
        help="from the tables of the earlier report in that folder, not the store",
    )
    arguments = parser.parse_args(argv)
    console = Console(highlight=False)
    try:
        load_plugins(arguments.imports)
        summary = report(arguments.file, arguments.set, arguments.out, arguments.from_results)
    except (ConfigError, OutputError, ResultsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if summary is None:
        print(
            f"error: {arguments.file} has no finished run yet; run python -m scaling.sweep {arguments.file} first.",
            file=sys.stderr,
        )
        return 1
    console.print(summary.table)
    for sentence in summary.sentences:
        console.print(sentence, soft_wrap=True, markup=False)
    console.print(f"Report: {summary.path}", soft_wrap=True)
    return 0


def report(file: Path, overrides: Sequence[str], out: Path | None = None, from_results: bool = False) -> Summary | None:
    """Write the results of a sweep; None where no run is finished yet.

    from_results: draw them again from the tables that an earlier report left, without the store.

    Raises ConfigError for a wrong file, OutputError for a folder that is not this sweep's.
    """
    sweep = load_sweep(file, overrides)
    output = report_output(file, overrides, sweep, out)
    output.check()
    with printing(Printing(sweep.labels, sweep.figure.width)):
        return _report(file, sweep, output, from_results)


def _report(file: Path, sweep: Sweep, output: Output, from_results: bool) -> Summary | None:
    if from_results:
        material, source = material_in_folder(sweep, output.folder), ""
    else:
        store = open_store(sweep)
        current = plan(sweep, store.numbers)
        material, source = material_in_store(sweep, current, store), source_of(sweep, current, store)
    tables = material.tables
    if not tables.outcomes:
        return None
    settings = sweep.analysis
    numbers = (settings.bootstrap_draws, settings.seed, settings.problem_flops)
    question = Question(
        settings.reference, settings.claims, *numbers, compare=settings.compare, equal_within=settings.equal_within
    )
    parts, panels, ceilings = Parts(), dict[str, Panel](), dict[str, Mapping[int, float]]()
    with parts.part("the ceilings of multipliers"):
        ceilings |= ceilings_of(sweep, material.plan)
    for name, outcomes in tables.outcomes.items():
        with parts.part(f"{where(name)}the analysis"):
            costs = costs_by_cell(tables.runs, name)
            known = (tables.base_errors.get(name), costs, ceilings.get(name, {}), moves_of(tables.selection, name))
            panels[name] = analysed(from_table(outcomes), question, *known)
    with output.writing(source) as directory:
        _write_tables(directory, material)
        write_study_files(directory, panels, question, SWEEP, parts)
        more = more_sections(directory, material.measures, parts)
        costs = pd.read_csv(directory / "ledger.csv")
        samples = samples_in_folder(directory)  # rounded, as for a report that is drawn from its tables
        story = Story(file, sweep, material.plan, tables, costs, samples, panels, more)
        write_report(directory, file.stem, sections(story, directory, parts))
    studies = {name: panel.study for name, panel in panels.items()}
    sentences = tuple(
        f"{where(name)}{verdict.sentence}" for name, study in studies.items() for verdict in study.verdicts
    )
    return Summary(output.folder / "report.html", _summary_tables(studies), (*sentences, *parts.warning()))


def is_current(file: Path, overrides: Sequence[str], out: Path | None = None) -> Path | None:
    """The report, when it was drawn from the same sweep and the same runs by the same code."""
    sweep = load_sweep(file, overrides)
    store = open_store(sweep)
    folder = report_output(file, overrides, sweep, out).folder
    mark = mark_of(folder)
    if mark is None or not (folder / "report.html").exists():
        return None
    same = mark.digest == source_of(sweep, plan(sweep, store.numbers), store)
    return folder / "report.html" if same else None


def source_of(sweep: Sweep, current: Plan, store: Store) -> str:
    """A digest of all that a report is drawn from: the sweep but for its folders, its runs, code and plug-ins."""
    targets = [(run, stage) for run in current.runs for stage in run.targets]
    runs = [[run.name, stage.digest, store.record(stage) is not None] for run, stage in targets]
    settings = sweep.model_dump(mode="json", exclude={"store", "results"})
    plugins = sorted(plugin.digest for plugin in loaded_plugins())  # labels and curve forms are theirs too
    text = json.dumps([SCHEMA_VERSION, code_digest(), plugins, settings, runs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def code_digest(root: Path = PROJECT) -> str:
    """Sixteen hex digits over the code that draws a report, and the page's templates."""
    digest = hashlib.sha256(str(sources_digest("analysis.report", root, ("analysis",))).encode())
    for template in sorted((root / "analysis" / "templates").glob("*.j2")):
        digest.update(template.name.encode() + template.read_bytes())
    return digest.hexdigest()[:16]


def _write_tables(directory: Path, material: Material) -> None:
    tables = material.tables
    provenance = json.dumps(tables.provenance, indent=1)
    (directory / PROVENANCE).write_text(provenance + "\n", encoding="utf-8")
    write_csv(tables.runs, directory / "runs.csv")
    write_csv(tables.choices, directory / "choices.csv")
    if len(tables.selection):
        write_csv(tables.selection, directory / "selection.csv")
    write_csv(material.costs, directory / "ledger.csv")
    write_samples(material.samples, directory)
    outcomes = pd.concat([table.assign(panel=panel) for panel, table in tables.outcomes.items()], ignore_index=True)
    categories = dict.fromkeys(("algorithm", "panel", "problem"), "category")
    outcomes.astype({"wrong": "int8", **categories}).to_parquet(directory / "outcomes.parquet", compression="zstd")


def _summary_tables(studies: dict[str, Study]) -> Group:
    """A table a panel, under its name: mean test error in percent, and what is given of the multiplier."""
    tables = []
    for panel, study in studies.items():
        sizes = sorted(map(int, set(study.outcomes.data_size)))
        name_column, at_sizes = Column("algorithm", overflow="fold"), (f"D={size}" for size in sizes)  # no name is cut
        title = Text(panel) if panel else None
        table = Table(name_column, *at_sizes, MULTIPLIER, title=title, title_justify="left", box=None)
        headlines = {item.algorithm: item.headline.text if item.headline else None for item in study.verdicts}
        for name, *cells in summary(error_table(study), headlines, study.reference, sizes).itertuples():
            table.add_row(Text(name), *cells)  # as text: brackets are markup
        tables.append(table)
    return Group(*tables)


if __name__ == "__main__":
    sys.exit(main())
