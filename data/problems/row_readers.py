"""Rows of GSM8K, of MATH and of a user's own files as a problem, its answer and its solution.

In: a row as the set publishes it. Out: `SetRow`. A solution that does not state its answer in the configured form gets
one more line that does, so that it verifies and a policy trained on it states its answers; one that ends by stating
another answer is an error. "The answer is" and numbers on the way to the end are no such statement.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from data.answers.final_answer import final_answer, form_used, same_answer
from data.answers.user_verifiers import is_right
from scaling.config.errors import nearest
from scaling.config.problems import ProblemsInLanguage
from scaling.config.text_problems import Gsm8k, Jsonl, Math

_MAX_DIGITS = 40
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


def read_row(config: ProblemsInLanguage, row: Mapping[str, object], where: str) -> SetRow:
    """A row as a `SetRow`; where: its file and number, for messages."""
    if not isinstance(row, Mapping):
        shown = "null" if row is None else repr(row)[:60]
        raise ValueError(f"{where} is {shown}; expected an object with keys. Correct or remove it.")
    found = _READERS[config.family](config, row, where)
    if not found.problem or not found.answer:
        missing = "problem" if not found.problem else "answer"
        raise ValueError(f"{where} has an empty {missing}; complete or remove the row.")
    if found.solution is None:
        return found
    if isinstance(config, Jsonl) and config.verifier is not None:
        if not is_right(config.verifier, found.solution, found.answer):
            raise ValueError(
                f"{where}: the verifier {config.verifier!r} finds the row's own solution wrong; correct or remove the"
                " row, or fix the verifier."
            )
        return found
    stated = final_answer(found.solution, config.answer_forms)
    if stated is not None and same_answer(stated, found.answer):
        return found
    if stated is not None and _ends_so(found.solution, config):
        raise ValueError(
            f"{where}: the solution states {stated!r}, but the answer is {found.answer!r}; correct or remove the row,"
            f" or change problems.answer_forms, which is {list(config.answer_forms)}."
        )
    return _with_statement(config, found, where)


def unseen(
    rows: Iterable[tuple[str, SetRow]], seen: dict[str, list[tuple[str, SetRow]]]
) -> tuple[list[SetRow], list[str]]:
    """The rows whose problem is not among those seen, ignoring capitals and blanks; they count as seen from now on.

    With different capitals and a different answer it is another problem: x is not X. With equal capitals an answer is
    wrong, and the second value returned has a sentence about it. rows: with the place of each, for these sentences.
    """
    kept, contradictions = [], []
    for where, row in rows:
        alike = seen.setdefault(" ".join(row.problem.casefold().split()), [])
        if any(same_answer(row.answer, other.answer) for _, other in alike):
            continue
        twin = next(((place, other) for place, other in alike if other.problem.split() == row.problem.split()), None)
        if twin is not None:
            contradictions.append(
                f"{where} is the problem of {twin[0]}, {row.problem[:60]!r}, but its answer is {row.answer!r} and not"
                f" {twin[1].answer!r}; correct or remove one of them. Of a set of the hub, name corrected files in"
                " problems.path."
            )
            continue
        alike.append((where, row))
        kept.append(row)
    return kept, contradictions


def _ends_so(solution: str, config: ProblemsInLanguage) -> bool:
    """Whether a solution's statement is meant to be its last word: a mark, a box, or a phrase on the last line."""
    form = form_used(solution, config.answer_forms)
    if form == "phrase":
        return final_answer(solution.splitlines()[-1], (form,)) is not None
    return form in ("hashes", "boxed")


def _with_statement(config: ProblemsInLanguage, row: SetRow, where: str) -> SetRow:
    """The row, its solution with a last line that states the answer in the first of the forms."""
    form = config.answer_forms[0]
    solution = f"{row.solution}\n{_STATEMENTS[form].format(row.answer)}"
    stated = final_answer(solution, config.answer_forms)
    if stated is None or not same_answer(stated, row.answer):
        raise ValueError(
            f"{where}: the answer {row.answer!r} cannot be stated in the form {form!r}, for {solution[-60:]!r} is read"
            f" as {stated!r}; change the answer, or problems.answer_forms, which is {list(config.answer_forms)}."
        )
    return replace(row, solution=solution)


def _gsm8k(config: Gsm8k, row: Mapping[str, object], where: str) -> SetRow:
    solution = _text(row, "answer", where)
    answer = final_answer(solution, ("hashes",))
    if answer is None:
        raise ValueError(f"{where} has no line of #### and an answer: {solution[-60:]!r}; it is not a row of GSM8K.")
    if not config.calculator_marks:
        solution = _MARKS.sub("", solution)
    return SetRow(_text(row, "question", where), answer, solution)


def _math(config: Math, row: Mapping[str, object], where: str) -> SetRow:
    solution = _text(row, "solution", where)
    answer = final_answer(solution, ("boxed",))
    if answer is None:
        raise ValueError(f"{where} has no \\boxed answer: {solution[-60:]!r}; it is not a row of MATH.")
    return SetRow(_text(row, "problem", where), answer, solution)


def _jsonl(config: Jsonl, row: Mapping[str, object], where: str) -> SetRow:
    solution = _text(row, config.solution_key, where) if row.get(config.solution_key) is not None else None
    problem = _text(row, config.prompt_key, where, "prompt_key")
    return SetRow(problem, _text(row, config.answer_key, where, "answer_key"), solution or None)


# Each takes the config of its own family.
_READERS: Mapping[str, Callable[[Any, Mapping[str, object], str], SetRow]] = {
    "gsm8k": _gsm8k,
    "math": _math,
    "jsonl": _jsonl,
}


def _text(row: Mapping[str, object], key: str, where: str, setting: str = "") -> str:
    """A text of the row; a number is written out. setting: names the key in a sweep file."""
    if key not in row:
        keys = tuple(map(str, row))
        other = f", or name another key in problems.{setting}" if setting else ""
        raise ValueError(
            f"{where} has no key {key!r}; its keys are {', '.join(keys) or 'none'}. Add it{other}.{nearest(key, keys)}"
        )
    value = row[key]
    if isinstance(value, str):
        text = value
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool) and math.isfinite(value):
        text = _digits(value)
    else:
        raise ValueError(
            f"{where} has {value!r} as its {key!r}; expected text or a number. Correct the row, whose keys are"
            f" {', '.join(map(str, row))}."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where} has half a character in its {key!r} ({error}); correct or remove the row."
        ) from error
    return text.replace("\r\n", "\n").strip()


def _digits(number: float | Decimal) -> str:
    """A number in plain digits, 0.00001 for 1e-05, unless they would be very many."""
    plain = f"{Decimal(str(number)):f}"
    return plain if len(plain) <= _MAX_DIGITS else str(number)
