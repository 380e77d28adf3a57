"""D_syn: synthetic problems with the teacher's verified solutions.

In: the family's config, the teacher's, a size and a seed; of problems in plain language the imported set, or for a chat
model the problems of every split. Out: `synthetic.jsonl`, one row a problem: prompt, answer, completion; of a chat
model also origin (teacher, model, seed problem, attempt), and `rejected.jsonl`, the attempts that gave no problem, with
their reasons. The sizes of a seed are nested.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.problems.families import family_of
from data.records import write_jsonl
from data.sets.problem_pool import training_problems
from scaling.config.problems import Problems, problems_in_language_of, problems_of
from scaling.config.teacher import Teacher, joined
from scaling.config.text_problems import TextProblems

_SOLUTIONS = 0x7EAC  # keeps the solutions' generators apart from the problems' of the same seed
_MAX_ATTEMPTS = 64


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Write D_syn. config: problems, teacher, data_size, seed; of a chat model also asking, which changes no result."""
    problems, teacher = problems_of(config), joined(config["teacher"], config.get("asking", {}))
    if not teacher.named:
        rows, numbers = solved(problems, teacher, inputs, config["data_size"], config["seed"])
        write_jsonl(out / "synthetic.jsonl", rows)
        return numbers
    from data.teacher.rows import taught  # needs the extra `teacher`
    from data.teacher.subject import subject_of

    subject = subject_of(problems_in_language_of(config), inputs)
    judged, numbers = taught(teacher, subject, config["data_size"], config["seed"], Path(teacher.ledger))
    write_jsonl(out / "synthetic.jsonl", judged.rows)
    write_jsonl(out / "rejected.jsonl", judged.rejected)
    return numbers


def solved(
    problems: Problems, teacher: Teacher, inputs: Mapping[str, Path], data_size: int, seed: int
) -> tuple[list[dict[str, object]], dict[str, float]]:
    """D_syn from the family's own procedure, or a set's own solutions; the rows and their numbers.

    The problems are the first data_size of the seed's stream, so the sizes of a seed are nested; so are the solutions,
    each drawn from a generator keyed by (seed, problem). A solution whose answer does not verify is drawn again, as a
    teacher would be asked again, unless `teacher.keep_unverified` keeps it; every attempt is counted.
    """
    family = family_of(problems)
    rows: list[dict[str, object]] = []
    rejected = spurious = flawed = 0
    for index, problem in enumerate(training_problems(problems, inputs, seed, data_size)):
        rng = np.random.default_rng([_SOLUTIONS, seed, index])
        for _ in range(_MAX_ATTEMPTS):
            completion = family.solve(problems, problem, rng)
            check = family.check(problems, problem, completion)
            if check.reward == 1.0 or teacher.keep_unverified:
                break
            rejected += 1
        else:
            raise ValueError(
                f"teacher: {_MAX_ATTEMPTS} solutions of {problem.prompt!r} did not verify: {_cure(problems)}, or set"
                " teacher.keep_unverified: true."
            )
        spurious += check.spurious_steps or 0
        flawed += bool(check.spurious_steps)
        rows.append({"prompt": problem.prompt, "answer": problem.answer, "completion": completion})
    numbers = {"num_problems": float(len(rows)), "num_rejected_solutions": float(rejected)}
    if check.steps_are_judged:
        numbers["num_spurious_steps"] = float(spurious)
        if flawed:  # else the record stays as it was before this number
            numbers["flawed_fraction"] = flawed / len(rows)  # what problems.flaw_rate came to
    return rows, numbers


def _cure(problems: Problems) -> str:
    if isinstance(problems, TextProblems):
        return "the set's own solution does not state the answer; correct or remove the row"
    flaws = getattr(problems, "flaw_rate", None)  # a family from outside need not have it
    return "its family's teacher is wrong" if flaws is None else f"problems.flaw_rate is {flaws}; lower it"
