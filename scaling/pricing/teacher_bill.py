"""The requests of a plan to its chat teachers and their possible cost, before anything is sent.

In: the stages that would run, and those that are stored. Out: sentences for `--plan`, and the seconds that a stage will
wait for replies. Each size is a stage of its own, but the sizes of one seed go through the same attempts and share the
seed's ledger: a larger size finds the replies to a smaller one there. So each size is billed for what it adds. The cost
is an upper estimate: every reply as long as max_tokens, and twice as many attempts as problems.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data.teacher.ledger import ledger_path, spent_in
from scaling.config.teacher import NamedTeacher, Teacher, joined
from scaling.stage import Stage, canonical_json

EXPECTED_ATTEMPTS, MOST_ATTEMPTS = 1.25, 2.0  # for each problem: a guess, and the assumed worst
# Tokens of the two prompts, and of the question in them; with room, since a vocabulary may be coarse.
PROMPT_TOKENS, QUESTION_TOKENS = 600, 400
REPLY_SECONDS = 10.0  # a guess
SIFTING = ("near_duplicate", "ngram")  # settings of a teacher that select replies but do not change requests


def bill(added: Mapping[Stage, int]) -> list[str]:
    """Sentences on requests, cost and budget, of what `added_problems` gives; empty if there is no chat model."""
    if not added:
        return []
    teachers = [(teacher_of(stage), size) for stage, size in added.items()]
    ledgers = {(teacher_of(stage).ledger, stage.config["seed"]) for stage in added}
    problems = sum(added.values())
    requests = sum(size * teacher.requests_per_attempt for teacher, size in teachers)
    names = ", ".join(dict.fromkeys(name for teacher, _ in teachers for name in teacher.named))
    lines = [
        f"Teacher: about {requests * EXPECTED_ATTEMPTS:.0f} requests to {names} are expected for {problems} problems in"
        f" {len(ledgers)} ledgers; replies that are already in them are not requested again."
    ]
    most = [usd for teacher, size in teachers if (usd := _most_usd(teacher, size)) is not None]
    if len(most) < len(teachers):
        lines.append("A teacher has no prices, so its cost is unknown; state usd_per_million_input_tokens and so on.")
    else:
        lines.append(
            f"At most about {sum(most):.2f} USD, if half of the attempts are rejected and every reply has max_tokens."
        )
    return lines + _budgets([teacher for teacher, _ in teachers])


def added_problems(stages: Iterable[Stage], stored: Iterable[Stage] = ()) -> dict[Stage, int]:
    """For each stage with a chat model, how many problems it has beyond those of smaller sizes of its seed.

    stored: stages that ran before; their replies are in the ledger, if it still exists.
    """
    found: dict[Stage, int] = {}
    reached: dict[str, int] = {}
    for stage in stored:
        if _is_asking(stage) and ledger_path(Path(teacher_of(stage).ledger), stage.config["seed"]).exists():
            key = _asked_alike(stage)
            reached[key] = max(reached.get(key, 0), stage.config["data_size"])
    for stage in sorted(filter(_is_asking, stages), key=lambda stage: stage.config["data_size"]):
        key, size = _asked_alike(stage), stage.config["data_size"]
        found[stage] = max(0, size - reached.get(key, 0))
        reached[key] = max(reached.get(key, 0), size)
    return found


def asking_seconds(stage: Stage, num_problems: int | None = None) -> float:
    """Seconds that a teacher's stage waits for replies: for a slot or for the pace, whichever is slower.

    num_problems: of those that it requests itself, without smaller sizes; by default all.
    """
    teacher = teacher_of(stage)
    problems = int(stage.config["data_size"]) if num_problems is None else num_problems
    if not teacher.named:
        return 0.0
    requests = problems * teacher.requests_per_attempt * EXPECTED_ATTEMPTS
    whole = sum(one.share for one in teacher.named.values())
    return max(requests * one.share / whole * _seconds_apart(one) for one in teacher.named.values())


def teacher_of(stage: Stage) -> Teacher:
    """The settings of a stage of kind teacher."""
    return joined(stage.config["teacher"], stage.execution.get("asking", {}))


def _is_asking(stage: Stage) -> bool:
    return stage.kind == "teacher" and bool(teacher_of(stage).named)


def _asked_alike(stage: Stage) -> str:
    """A key that is equal for stages with the same attempts, apart from their number."""
    teacher = {key: value for key, value in stage.config["teacher"].items() if key not in SIFTING}
    others = {key: value for key, value in stage.config.items() if key != "data_size"}
    return canonical_json({**others, "teacher": teacher, "problems of": stage.inputs["problems"].digest})


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
    """The budget and the spending, for each folder of ledgers."""
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
