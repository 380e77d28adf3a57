"""What a plan's chat teachers will be asked and what that may cost, before anything is sent.

In: the stages that would run. Out: sentences for `--plan`, and the seconds that a stage will wait for replies. Sizes of
one seed share their replies, so of each teacher and seed only the largest size counts. The cost is an upper estimate:
every reply as long as max_tokens, and twice as many attempts as problems.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from data.teacher_ledger import spent_in
from scaling.stage import Stage, canonical_json
from scaling.teacher_config import NamedTeacher, Teacher, joined

EXPECTED_ATTEMPTS, MOST_ATTEMPTS = 1.25, 2.0  # for each problem: a guess, and what is taken for the worst
# Tokens of the two prompts, and of the question in them; with room, since a vocabulary may be coarse.
PROMPT_TOKENS, QUESTION_TOKENS = 600, 400
REPLY_SECONDS = 10.0  # a guess


def bill(stages: Iterable[Stage]) -> list[str]:
    """Sentences on requests, cost and budget; none where no chat model is asked."""
    asked = _largest(stages)
    if not asked:
        return []
    lines = []
    teachers = [(teacher_of(stage), stage.config["data_size"]) for stage in asked]
    problems = sum(size for _, size in teachers)
    requests = sum(size * teacher.requests_per_attempt for teacher, size in teachers)
    names = ", ".join(dict.fromkeys(name for teacher, _ in teachers for name in teacher.named))
    lines.append(
        f"Teacher: about {requests * EXPECTED_ATTEMPTS:.0f} requests to {names} are expected for {problems} problems in"
        f" {len(asked)} ledgers; replies that are in them already are not asked for again."
    )
    most = [_most_usd(teacher, size) for teacher, size in teachers]
    if None in most:
        lines.append(
            "Some teacher has no prices, so its cost is not known; state usd_per_million_input_tokens and so on."
        )
    else:
        lines.append(
            f"At most about {sum(most):.2f} USD, if half of the attempts are rejected and every reply has max_tokens."
        )
    return lines + _budgets([teacher for teacher, _ in teachers])


def asking_seconds(stage: Stage) -> float:
    """Seconds that a teacher's stage waits for replies: for a slot or for the pace, whichever is slower."""
    teacher = teacher_of(stage)
    requests = stage.config["data_size"] * teacher.requests_per_attempt * EXPECTED_ATTEMPTS
    whole = sum(one.share for one in teacher.named.values())
    return max((requests * one.share / whole * _seconds_apart(one) for one in teacher.named.values()), default=0.0)


def teacher_of(stage: Stage) -> Teacher:
    """The settings of a stage of kind teacher."""
    return joined(stage.config["teacher"], stage.execution.get("asking", {}))


def _largest(stages: Iterable[Stage]) -> list[Stage]:
    """Of the stages with a chat model that differ in nothing but their size, the largest."""
    largest: dict[str, Stage] = {}
    for stage in stages:
        if stage.kind != "teacher" or not teacher_of(stage).named:
            continue
        others = {key: value for key, value in stage.config.items() if key != "data_size"}
        key = canonical_json({**others, "problems of": stage.inputs["problems"].digest})
        if key not in largest or largest[key].config["data_size"] < stage.config["data_size"]:
            largest[key] = stage
    return list(largest.values())


def _most_usd(teacher: Teacher, data_size: int) -> float | None:
    whole = sum(one.share for one in teacher.named.values())
    total = 0.0
    for one in teacher.named.values():
        if one.usd_per_million_input_tokens is None or one.usd_per_million_output_tokens is None:
            return None
        each = one.usd_per_million_input_tokens * (PROMPT_TOKENS + QUESTION_TOKENS)
        each += one.usd_per_million_output_tokens * one.max_tokens
        total += data_size * one.share / whole * MOST_ATTEMPTS * teacher.requests_per_attempt * each / 1e6
    return total


def _budgets(teachers: Sequence[Teacher]) -> list[str]:
    """What stops the asking, and what is spent, for each folder of ledgers."""
    lines = []
    for folder in dict.fromkeys(teacher.ledger for teacher in teachers):
        first = next(teacher for teacher in teachers if teacher.ledger == folder)
        limits = [f"{first.budget_usd:g} USD"] if first.budget_usd is not None else []
        limits += [f"{first.budget_tokens} tokens"] if first.budget_tokens is not None else []
        spent = spent_in(Path(folder))
        lines.append(
            f"Spent so far in {folder}: {spent.usd:.2f} USD and {spent.tokens} tokens in {spent.requests} requests;"
            f" {'the budget is ' + ' and '.join(limits) if limits else 'there is no budget (teacher.budget_usd)'}."
        )
    return lines


def _seconds_apart(one: NamedTeacher) -> float:
    pace = 60.0 / one.requests_per_minute if one.requests_per_minute else 0.0
    return max(pace, REPLY_SECONDS / one.max_concurrency)
