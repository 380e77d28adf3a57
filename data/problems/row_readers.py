"""Rows of GSM8K, of MATH and of a user's own files as a problem, its answer and its solution.

In: a row as the set publishes it. Out: `SetRow`. A solution that does not state its answer in the configured form gets
one more line that does, so that it verifies and a policy trained on it states its answers; one that states another
answer is an error.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from data.answers.final_answer import final_answer, same_answer
from scaling.config.text_problems import Gsm8k, Jsonl, Math, TextProblems

_MARKS = re.compile(r"<<[^<>\n]*>>")  # <<48/2=24>>
_STATEMENTS: Mapping[str, str] = {
    "hashes": "#### {}",
    "boxed": "The answer is $\\boxed{{{}}}$.",
    "phrase": "The answer is {}.",
    "last_number": "The answer is {}.",
}


@dataclass(frozen=True)
class SetRow:
    """One problem of a set."""

    problem: str  # without the instruction
    answer: str
    solution: str | None  # the set's own, stating the answer


def read_row(config: TextProblems, row: Mapping[str, object], where: str) -> SetRow:
    """A row in our terms; where: its file and number, for messages."""
    found = _READERS[config.family](config, row, where)
    if not found.problem or not found.answer:
        missing = "problem" if not found.problem else "answer"
        raise ValueError(f"{where} has an empty {missing}; complete or remove the row.")
    if found.solution is None:
        return found
    stated = final_answer(found.solution, config.answer_forms)
    if stated is None:
        ending = _STATEMENTS[config.answer_forms[0]].format(found.answer)
        return SetRow(found.problem, found.answer, f"{found.solution}\n{ending}")
    if not same_answer(stated, found.answer):
        raise ValueError(
            f"{where}: the solution states {stated!r}, but the answer is {found.answer!r}; correct or remove the row,"
            f" or change problems.answer_forms, which is {list(config.answer_forms)}."
        )
    return found


def _gsm8k(config: Gsm8k, row: Mapping[str, object], where: str) -> SetRow:
    solution = _text(row, "answer", where)
    answer = final_answer(solution, ("hashes",))
    if answer is None:
        raise ValueError(f"{where} has no line of #### and an answer: {solution[-60:]!r}; it is no row of GSM8K.")
    return SetRow(_text(row, "question", where), answer, solution if config.calculator_marks else _unmarked(solution))


def _math(config: Math, row: Mapping[str, object], where: str) -> SetRow:
    solution = _text(row, "solution", where)
    answer = final_answer(solution, ("boxed",))
    if answer is None:
        raise ValueError(f"{where} has no \\boxed answer: {solution[-60:]!r}; it is no row of MATH.")
    return SetRow(_text(row, "problem", where), answer, solution)


def _jsonl(config: Jsonl, row: Mapping[str, object], where: str) -> SetRow:
    solution = _text(row, config.solution_key, where) if row.get(config.solution_key) is not None else None
    return SetRow(_text(row, config.prompt_key, where), _text(row, config.answer_key, where), solution)


_READERS: Mapping[str, Callable[[TextProblems, Mapping[str, object], str], SetRow]] = {
    "gsm8k": _gsm8k,
    "math": _math,
    "jsonl": _jsonl,
}


def _text(row: Mapping[str, object], key: str, where: str) -> str:
    """A text of the row; a number is written out."""
    value = row.get(key) if isinstance(row, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(
            f"{where} has {value!r} as its {key!r}; expected text or a number. Its keys: {', '.join(map(str, row))}."
        )
    return str(value).replace("\r\n", "\n").strip()


def _unmarked(solution: str) -> str:
    return _MARKS.sub("", solution)
