"""One attempt at a synthetic problem: write a question from a seed problem, solve it, and see whether it verifies.

In: a teacher's view of a problem family (`Subject`), and an attempt's number, teacher and seed problem. Out: an
`Attempt`, with the question and its solution, or with the reason why there is no problem. The teacher and seed
problem of an attempt depend only on its number, so a larger size makes the same attempts and then more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data.records import Problem
from data.teacher.client import ChatClient
from data.teacher.ledger import Reply
from data.teacher.prompts import is_refusal, read_solved, read_written, solve_prompt, write_prompt
from data.teacher.sieve import Copies, HeldOut
from data.teacher.subject import Subject
from scaling.config.teacher import Teacher

# Why there is no problem, in the order of the checks.
Reason = Literal[
    "content_filter",  # the server withheld the reply
    "refusal",  # the model will not answer
    "truncated",  # the reply is longer than max_tokens
    "empty",  # the reply has no text
    "malformed",  # the reply lacks a field that was asked for
    "copy_of_seed",  # the question is the seed problem's
    "contaminated",  # it shares words with a validation or test problem
    "duplicate",  # it is an earlier question
    "near_duplicate",  # it is nearly one
    "no_answer",  # the family reads no answer from the solution
    "disagreement",  # the solutions' answers differ, or the reference is another
]

_SEEDS = 0x7EAD  # keeps the order of seed problems apart from other generators of the same seed


@dataclass(frozen=True)
class Planned:
    """The teacher and seed problem of an attempt."""

    index: int
    teacher: str
    seed_index: int  # of the seed problem among the subject's
    seed_problem: Problem


@dataclass(frozen=True)
class Attempt:
    """The result of an attempt."""

    planned: Planned
    replies: tuple[Reply, ...]
    question: str | None = None
    answer: str | None = None
    completion: str | None = None
    reason: Reason | None = None  # None when it verifies
    detail: str = ""  # more about the reason


def planned_attempts(teacher: Teacher, seeds: Sequence[Problem], seed: int) -> Iterator[Planned]:
    """All attempts, endlessly: teachers in proportion to their shares, seed problems in a new order each round."""
    shares = {name: settings.share for name, settings in sorted(teacher.named.items())}  # in no file's order
    whole, made = sum(shares.values()), dict.fromkeys(shares, 0)
    index = 0
    while True:
        order = np.random.default_rng([_SEEDS, seed, index // len(seeds)]).permutation(len(seeds))
        for position in order:
            name = max(shares, key=lambda item: shares[item] / whole * (index + 1) - made[item])
            made[name] += 1
            yield Planned(index, name, int(position), seeds[position])
            index += 1


async def attempt(
    client: ChatClient, teacher: Teacher, subject: Subject, held_out: HeldOut, earlier: Copies, planned: Planned
) -> Attempt:
    """Make one attempt. earlier: questions of lower index, as far as known: copies of them are not solved."""
    with_answer = teacher.verify == "reference" and not teacher.keep_unverified
    prompt = write_prompt(planned.seed_problem.prompt, subject.answer_kind, with_answer)
    reply = await client.ask(planned.teacher, prompt, {"attempt": planned.index, "role": "write"})
    fault, text = _fault(reply), reply.content or ""
    written = None if fault else read_written(text, with_answer)
    if written is None:
        return Attempt(planned, (reply,), reason=fault or _unread(text), detail=text)
    question = written["FINAL QUESTION"]
    if question.split() == planned.seed_problem.prompt.split():
        return Attempt(planned, (reply,), reason="copy_of_seed", detail=question)
    overlap = held_out.find(question)
    if overlap is not None:
        where = f"{overlap.split} problem {overlap.index}: {overlap.words} | {question}"
        return Attempt(planned, (reply,), reason="contaminated", detail=where)
    if earlier.find(question) is not None:  # the final check knows all earlier questions
        return Attempt(planned, (reply,), question=question, reason="duplicate")
    reference = subject.answer(subject.completion("", written["FINAL ANSWER"])) if with_answer else None
    if with_answer and reference is None:
        return Attempt(planned, (reply,), question=question, reason="no_answer", detail=written["FINAL ANSWER"])
    return await _solved(client, teacher, subject, planned, reply, question, reference)


async def _solved(
    client: ChatClient,
    teacher: Teacher,
    subject: Subject,
    planned: Planned,
    written: Reply,
    question: str,
    reference: str | None,
) -> Attempt:
    """Solve the question as often as answers must agree; stop at the first useless solution."""
    replies, answer = [written], reference
    first: str | None = None
    for number in range(teacher.requests_per_attempt - 1):
        use = {"attempt": planned.index, "role": "solve", "number": number}
        prompt = solve_prompt(question, subject.answer_kind)
        reply = await client.ask(planned.teacher, prompt, use)
        replies.append(reply)
        fault, text = _fault(reply), reply.content or ""
        fields = None if fault else read_solved(text)
        if fields is None:
            return Attempt(planned, tuple(replies), question, reason=fault or _unread(text), detail=text)
        completion = subject.completion(fields["SOLUTION"], fields["FINAL ANSWER"])
        given = subject.answer(completion)
        if given is None:
            return Attempt(planned, tuple(replies), question, reason="no_answer", detail=fields["FINAL ANSWER"])
        if answer is not None and not subject.is_right(Problem(question, answer), completion):
            detail = f"{answer} and {given}"
            return Attempt(planned, tuple(replies), question, reason="disagreement", detail=detail)
        answer, first = answer or given, first or completion
    return Attempt(planned, tuple(replies), question, answer, first)


def _fault(reply: Reply) -> Reason | None:
    """What is wrong with a reply before it is read."""
    if reply.finish_reason == "content_filter":
        return "content_filter"
    if reply.refusal:
        return "refusal"
    if reply.finish_reason == "length":
        return "truncated"
    return None if reply.content and reply.content.strip() else "empty"


def _unread(text: str) -> Reason:
    return "refusal" if is_refusal(text) else "malformed"
