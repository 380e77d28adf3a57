"""Checks of a sweep file that involve several of its sections.

In: a sweep or a cell. Out: sentences, or a ConfigError of the first mistake; each names the key, its value and the
cure.
"""

from collections.abc import Iterator

from data.answers.user_verifiers import verifier_of
from data.problems.families import family_of
from data.sets.finite_splits import check_counts, rows_known, set_sizes
from data.sets.problem_files import ALL
from data.sets.row_lengths import row_lengths
from data.sets.splits import pool_size
from scaling.config.algorithms import algorithm_names
from scaling.config.errors import ConfigError, did_you_mean
from scaling.config.problems import DrawnProblems, ProblemsInLanguage
from scaling.config.sweep import Cell, Sweep
from scaling.config.text_problems import Jsonl, TextProblems
from scaling.planning.grid import axes, cells
from scaling.planning.set_stages import problem_source


def check_analysis(sweep: Sweep) -> Iterator[str]:
    """Reject claims, comparisons, labels and references of what no cell runs."""
    run = {cell.algorithm for cell in cells(sweep)}
    yield from (*_claims(sweep, run), *_comparisons(sweep, run), *_labels(sweep, run))
    if len(run) > 1 and sweep.analysis.reference not in run:
        yield (
            f"analysis.reference is {sweep.analysis.reference!r}, which the grid does not run ({_listed(run)});"
            " multipliers need the reference's curve."
        )


def _listed(run: set[str]) -> str:
    return ", ".join(name for name in algorithm_names() if name in run)


def _claims(sweep: Sweep, run: set[str]) -> Iterator[str]:
    for algorithm, claim in sweep.analysis.claims.items():
        where, shown = f"analysis.claims.{algorithm}", claim if isinstance(claim, str) else f"{claim:g}"
        if algorithm not in algorithm_names():
            yield f"{where}: there is no such algorithm.{did_you_mean(algorithm, algorithm_names())}"
        elif algorithm not in run:
            yield (
                f"{where} claims {shown} for an algorithm that no cell of the grid runs; the grid runs {_listed(run)}."
                " Take the claim out of analysis.claims, or the algorithm into grid.algorithm."
            )
        elif algorithm == sweep.analysis.reference:
            yield f"{where} claims {shown} for the reference, whose multiplier is 1; take the claim out."


def _comparisons(sweep: Sweep, run: set[str]) -> Iterator[str]:
    compare = sweep.analysis.compare
    for place, pair in enumerate(compare):
        where = f"analysis.compare[{place}]"
        for name in (item.partition(",")[0] for item in pair):
            if name not in run:
                hint = did_you_mean(name, sorted(run)) if name not in algorithm_names() else ""
                yield f"{where} names {name!r}, which no cell of the grid runs; the grid runs {_listed(run)}.{hint}"
        if pair[0] == pair[1]:
            yield f"{where} names {pair[0]!r} twice; name two different algorithms."
        if pair in compare[:place]:
            yield f"{where} repeats {list(pair)!r}; list each pair once."
    if sweep.analysis.equal_within is not None and not compare:
        yield (
            f"analysis.equal_within is {sweep.analysis.equal_within:g}, but analysis.compare names no pair of"
            " algorithms; name some, such as compare: [[step_dpo, rft]], or leave it out."
        )


def _labels(sweep: Sweep, run: set[str]) -> Iterator[str]:
    labels, varied = sweep.labels, axes(sweep)
    for name, label in labels.items():
        algorithm, comma, _ = name.partition(",")
        if algorithm not in run and ("=" not in name or comma):  # a setting may be anyone's
            hint = did_you_mean(algorithm, sorted(run))
            yield (
                f"labels names {name!r}; expected an algorithm of the grid ({_listed(run)}), a variant such as"
                f" 'rft, max_positives=4', or a setting such as 'max_positives=4'.{hint}"
            )
        elif unknown := [
            key
            for key, equals, _ in (part.strip().partition("=") for part in name.split(","))
            if equals and not any(axis == key or axis.endswith(f".{key}") for axis in varied)
        ]:
            yield f"labels names {name!r}, but no axis of the grid is {unknown[0]}; the axes are {', '.join(varied)}."
        elif (first := next(other for other in labels if labels[other] == label)) != name:
            yield f"labels.{name} is {label!r}, as labels.{first} is; give each a name of its own."


def check_set(cell: Cell, problems: ProblemsInLanguage) -> None:
    """Reject a set without a pretrained policy or without its files, and a data_size that it cannot offer."""
    if cell.policy.hf is None:
        raise ConfigError(
            f"problems.family is {problems.family!r}, a set in plain language, but policy.hf is not set; name a"
            " pretrained policy, such as policy: {hf: Qwen/Qwen2.5-0.5B}, or use the family modular_sum, ledger or"
            " star_graph."
        )
    if isinstance(problems, Jsonl) and problems.path is None:
        raise ConfigError("problems.family is 'jsonl', but problems.path is not set; name the file of your rows.")
    try:
        if isinstance(problems, Jsonl) and problems.verifier is not None:
            verifier_of(problems.verifier)
        rows, sizes = rows_known(problems), set_sizes(problems)
        if rows is None or sizes is None:
            return  # the stage that draws the problems will check
        lengths = row_lengths(problem_source(problems)["source"])  # reads the rows
        if lengths is not None and ALL in rows:
            rows = {ALL: rows[ALL] - lengths.num_repeated}
            sizes["train"] -= lengths.num_repeated
        check_counts(problems, rows)
    except (OSError, ValueError) as error:
        raise ConfigError(str(error)) from error
    if lengths is not None and lengths.unsolved and not cell.teacher.named:
        raise ConfigError(
            f"{lengths.unsolved[0]} has no solution to learn from"
            + (f", and {len(lengths.unsolved) - 1} more rows have none" if lengths.unsolved[1:] else "")
            + "; add solutions, or let a chat model write them (teacher.model)."
        )
    if cell.teacher.named:
        return  # a chat model writes as many as needed
    size, there = cell.data_size, sizes["train"]
    solvable = problems.solvable
    if solvable is not None and solvable.shots and solvable.num_candidates + solvable.shots > there:
        raise ConfigError(
            f"problems.solvable.num_candidates is {solvable.num_candidates} and shots {solvable.shots}, but"
            f" {problems.family} offers {there} training problems for both; lower num_candidates or shots."
        )
    if solvable is not None:
        there = min(there, solvable.num_candidates)
    if size > there:
        which = (
            f"and tries problems.solvable.num_candidates = {solvable.num_candidates} of them"
            if solvable is not None and there == solvable.num_candidates
            else "besides those held out"
        )
        raise ConfigError(
            f"data_size is {size}, but {problems.family} offers {sizes['train']} training problems {which};"
            " lower data_size."
        )


def check_test_sets(sweep: Sweep) -> Iterator[str]:
    """Reject further test sets with words that the policy does not have, or more problems than there are."""
    for cell in cells(sweep):
        own = cell.problems
        if not isinstance(own, DrawnProblems):
            _check_sets_of_files(cell)
            continue
        known = set(family_of(own).vocabulary(own))
        for one in cell.evaluation.sets:
            problems = cell.on(one).problems
            assert isinstance(problems, DrawnProblems)  # of the same family
            unknown = [word for word in family_of(problems).vocabulary(problems) if word not in known]
            if unknown and cell.policy.hf is None:
                yield (
                    f"evaluation.sets: {one.name!r} has the words {', '.join(unknown[:5])}, which the policy does not"
                    " have; use problems with words of the study's own."
                )
                return
            if problems.num_test > (there := pool_size(problems, "test")):
                yield (
                    f"evaluation.sets: {one.name!r} asks for {problems.num_test} test problems, but the family offers"
                    f" about {there} with these settings; lower num_test there."
                )
                return


def _check_sets_of_files(cell: Cell) -> None:
    """Reject another division of the study's own file: its training problems would be among the tested ones."""
    own = cell.problems
    for one in cell.evaluation.sets:
        problems = cell.on(one).problems
        assert isinstance(problems, TextProblems)  # of the same family
        try:
            if (rows := rows_known(problems)) is not None:
                row_lengths(problem_source(problems)["source"])
                check_counts(problems, rows)
        except (OSError, ValueError) as error:
            where = f"evaluation.sets: {one.name!r}: "
            raise ConfigError("\n".join(where + line for line in str(error).splitlines())) from error
        divided = [(each.num_test, each.num_validation) for each in (own, problems)]
        if divided[0] != divided[1] and getattr(problems, "path", None) == getattr(own, "path", None):
            raise ConfigError(
                f"evaluation.sets: {one.name!r} divides the study's own set into {divided[1][0]} test and"
                f" {divided[1][1]} validation problems, so that it would hold problems of training; leave num_test and"
                " num_validation as they are, or name another file."
            )


def check_attention(sweep: Sweep) -> Iterator[str]:
    """Reject cuDNN's attention for policies in float32, and for workers without a GPU."""
    if sweep.memory.attention != "cudnn":
        return
    cure = "or take memory.attention: xla"
    if any(cell.policy.compute_dtype == "float32" for cell in cells(sweep)):
        yield (
            "memory.attention is 'cudnn', but policy.compute_dtype is 'float32'; cuDNN's attention reads bfloat16: set"
            f" policy.compute_dtype: bfloat16, {cure}."
        )
    sampled_here = any(cell.sampler is None for cell in cells(sweep))
    for name in ("train", "rollouts") if sampled_here else ("train",):
        amounts = sweep.resources.amounts[name]
        if "gpu" not in amounts:
            asked = ", ".join(f"{resource}: {amount:g}" for resource, amount in amounts.items())
            yield (
                f"memory.attention is 'cudnn', but resources.{name} is {{{asked}}}; cuDNN needs an NVIDIA GPU: ask for"
                f" one there, such as resources.{name}: {{gpu: 1}}, {cure}."
            )


def check_sampler(sweep: Sweep) -> Iterator[str]:
    """Reject hosts and meshes for stages that a server samples: each member would request every completion."""
    hosts, mesh = sweep.resources.hosts.rollouts, sweep.resources.mesh.rollouts.num_devices
    if (hosts, mesh) == (1, 1) or all(cell.sampler is None for cell in cells(sweep)):
        return
    key, value = ("hosts", hosts) if hosts > 1 else ("mesh", mesh)
    yield (
        f"resources.{key}.rollouts asks for {value} {'workers' if hosts > 1 else 'devices'} per stage, but"
        f" sampler names a server that samples in their place; leave resources.{key}.rollouts out."
    )
