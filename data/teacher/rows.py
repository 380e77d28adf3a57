"""D_syn by a chat model: attempts run side by side and are judged in order, until there are enough rows.

In: the teacher's settings, a `Subject`, a size and a seed. Out: the rows in the order of their attempts, the rejected
attempts with their reasons, and numbers. An attempt is judged when all before it are, so the rows of a size are the
first rows of every larger one, whichever reply comes first. No more attempts run than rows are missing, so none is paid
for without being needed.
"""

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from data.teacher.attempts import Attempt, Reason, attempt, planned_attempts
from data.teacher.budget import Budget
from data.teacher.client import ChatClient
from data.teacher.ledger import Ledger, Spent, opened
from data.teacher.protocol import TeacherError
from data.teacher.sieve import Copies, HeldOut
from data.teacher.subject import Subject
from scaling.config.teacher import Teacher

logger = logging.getLogger(__name__)

TELL_SECONDS = 30.0
_AHEAD = 8  # attempts for each request that may be in flight: they should wait for slots, not for the judge


@dataclass
class Judged:
    """The attempts that are judged, in order."""

    rows: list[dict[str, object]] = field(default_factory=list)
    rejected: list[dict[str, object]] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)  # on all of them, in this run or an earlier one
    in_a_row: int = 0  # rejected since the last row

    @property
    def num_attempts(self) -> int:
        return len(self.rows) + len(self.rejected)

    @property
    def reasons(self) -> Counter[str]:
        return Counter(str(row["reason"]) for row in self.rejected)


def taught(
    teacher: Teacher, subject: Subject, data_size: int, seed: int, folder: Path
) -> tuple[Judged, dict[str, float]]:
    """The rows, the rejected and the numbers. folder: of the ledgers."""
    if not subject.seeds:
        raise ValueError("teacher: there are no seed problems to write similar ones from; see section problems.")
    with opened(folder, seed) as ledger:
        before = ledger.spent
        judged, client = asyncio.run(_judged(teacher, subject, data_size, seed, ledger))
        numbers = _numbers(teacher, judged, ledger.spent, before, client)
    return judged, numbers


async def _judged(
    teacher: Teacher, subject: Subject, data_size: int, seed: int, ledger: Ledger
) -> tuple[Judged, ChatClient]:
    copies = Copies(teacher.near_duplicate)
    held_out = HeldOut(subject.held_out, teacher.ngram)
    budget = Budget(teacher.budget_usd, teacher.budget_tokens, ledger)
    attempts = planned_attempts(teacher, subject.seeds, seed)
    most_ahead = _AHEAD * sum(settings.max_concurrency for settings in teacher.named.values())
    judged, last_log, began = Judged(), time.monotonic(), time.monotonic()
    under_way: dict[int, asyncio.Task[Attempt]] = {}
    logger.info("%d problems by %s; %s has %d replies.", data_size, ", ".join(teacher.named), ledger.path, len(ledger))
    async with ChatClient(teacher, ledger, budget, seed) as client:
        try:
            while len(judged.rows) < data_size:
                while len(under_way) < min(data_size - len(judged.rows), most_ahead):
                    planned = next(attempts)
                    made = attempt(client, teacher, subject, held_out, copies, planned)
                    under_way[planned.index] = asyncio.create_task(made)
                _judge(judged, await under_way.pop(judged.num_attempts), copies, subject)
                _stop_if_hopeless(teacher, judged, ledger)
                if time.monotonic() - last_log > TELL_SECONDS:
                    last_log = time.monotonic()
                    logger.info("%s", _progress(judged, data_size, client, ledger, last_log - began))
        finally:  # after an error or Ctrl-C too
            client.stop(TeacherError("teacher: stopped."))
            await asyncio.gather(*under_way.values(), return_exceptions=True)  # pending replies are kept as well
    logger.info("%s", _progress(judged, data_size, client, ledger, time.monotonic() - began))
    return judged, client


def _judge(judged: Judged, made: Attempt, copies: Copies, subject: Subject) -> None:
    """Accept an attempt as a row, or reject it; all attempts before it have been judged."""
    for reply in made.replies:
        judged.spent = judged.spent.plus(reply)
    if made.question is not None:
        copy = copies.find(made.question)
        if copy is not None:
            reason: Reason = "duplicate" if copy.similarity == 1.0 else "near_duplicate"
            detail = f"similarity {copy.similarity:.2f} to attempt {copy.of}"
            made = replace(made, reason=reason, detail=detail)
    planned = made.planned
    origin = {
        "teacher": planned.teacher,
        "model": made.replies[-1].model,
        "seed_problem": planned.seed_index,
        "attempt": planned.index,
    }
    if made.reason is not None:
        judged.in_a_row += 1
        judged.rejected.append({**origin, "reason": made.reason, "detail": made.detail, "question": made.question})
        return
    assert made.question is not None  # an attempt without one has a reason
    copies.add(planned.index, made.question)
    judged.in_a_row = 0
    prompt = subject.prompt(made.question)
    judged.rows.append({"prompt": prompt, "answer": made.answer, "completion": made.completion, "origin": origin})


def _stop_if_hopeless(teacher: Teacher, judged: Judged, ledger: Ledger) -> None:
    if judged.in_a_row < teacher.max_rejected_in_a_row:
        return
    last = judged.rejected[-1]
    raise TeacherError(
        f"teacher: the last {judged.in_a_row} attempts gave no problem, of {judged.num_attempts} in all"
        f" ({_counted(judged)}); the last one: {last['reason']}, {str(last['detail'])[:200]!r}. {len(judged.rows)}"
        f" problems are done, and what was paid for is in {ledger.path}. Change what the reason points at (max_tokens,"
        " near_duplicate, ngram, the model), or raise teacher.max_rejected_in_a_row."
    )


def _progress(judged: Judged, data_size: int, client: ChatClient, ledger: Ledger, seconds: float) -> str:
    pace = len(judged.rows) / seconds * 60 if seconds > 0 else 0.0
    return (
        f"{len(judged.rows)} of {data_size} problems ({pace:.0f} a minute), rejected: {_counted(judged) or 'none'};"
        f" {client.num_paid} new replies to {client.num_sent} requests sent; spent in all: {ledger.spent.usd:.4f} USD"
        f" and {ledger.spent.tokens} tokens."
    )


def _counted(judged: Judged) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in judged.reasons.most_common())


def _numbers(teacher: Teacher, judged: Judged, spent: Spent, before: Spent, client: ChatClient) -> dict[str, float]:
    """The numbers of the stage's record, with costs if every teacher has prices."""
    numbers = {
        "num_problems": float(len(judged.rows)),
        "num_attempts": float(judged.num_attempts),
        **{f"num_{reason}": float(judged.reasons[reason]) for reason in get_args(Reason)},
        "num_requests": float(judged.spent.requests),
        "num_input_tokens": float(judged.spent.input_tokens),
        "num_output_tokens": float(judged.spent.output_tokens),
        "num_new_requests": float(client.num_paid),
        "num_failed_requests": float(client.num_sent - client.num_paid),
    }
    if all(settings.has_prices for settings in teacher.named.values()):
        numbers |= {"cost_usd": judged.spent.usd, "new_cost_usd": spent.usd - before.usd}
    return numbers
