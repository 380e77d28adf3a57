"""What a chat model reads about a problem family in plain language, and how its solutions become the family's.

In: the family's config, and the artifact with the problems of every split. Out: a `Subject`: the bare questions of the
training problems, the held-out ones that must not be repeated, and how the family writes prompts, completions and
answers.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from data.problems import text_problems
from data.records import Problem, load_problems
from scaling.config.problems import ProblemsInLanguage

# How a completion states its answer, in the forms of data.answers.final_answer.
STATED: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "hashes": lambda answer: f"#### {answer}",
        "boxed": lambda answer: f"The answer is \\boxed{{{answer}}}.",
        "phrase": lambda answer: f"The answer is {answer}.",
        "last_number": lambda answer: answer,
    }
)
ANSWER_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "gsm8k": "a single number, an integer or a decimal, without a unit",
        "math": "a single number or expression, in LaTeX without dollar signs",
        "jsonl": "a single number or expression",
    }
)
HELD_OUT = ("validation", "test")
_BOXED = re.compile(r"\\boxed\{(.*)\}", re.DOTALL)  # models box answers without being asked to


@dataclass(frozen=True)
class Subject:
    """What a teacher must know of a problem family."""

    seeds: Sequence[Problem]  # training problems, as bare questions, to write similar ones from
    held_out: Mapping[str, Sequence[Problem]]  # split -> problems, as bare questions, that must not be repeated
    answer_kind: str  # completes "its answer is ...", for the prompts
    prompt: Callable[[str], str]  # question -> a prompt as the family writes it, with its instruction
    completion: Callable[[str, str], str]  # (solution, final answer) -> a completion as the family writes it
    answer: Callable[[str], str | None]  # completion -> its answer; None if it states no answer
    is_right: Callable[[Problem, str], bool]  # whether a completion's answer equals the problem's


def subject_of(problems: ProblemsInLanguage, inputs: Mapping[str, Path]) -> Subject:
    """The subject of a stage. inputs: problems."""
    instruction = text_problems.prompt_of(problems, "")

    def bare(split: str) -> list[Problem]:
        found = load_problems(inputs["problems"], split)
        return [Problem(item.prompt.removesuffix(instruction), item.answer) for item in found]

    return Subject(
        seeds=bare("train"),
        held_out={split: bare(split) for split in HELD_OUT},
        answer_kind=ANSWER_KINDS[problems.family],
        prompt=lambda question: text_problems.prompt_of(problems, question),
        completion=lambda solution, answer: completion_of(solution, answer, problems.answer_forms[0]),
        answer=lambda completion: text_problems.answer(problems, completion),
        is_right=lambda problem, completion: text_problems.check(problems, problem, completion).reward == 1.0,
    )


def completion_of(solution: str, answer: str, form: str) -> str:
    """A solution with each step on its own line, ending with its answer."""
    lines = [line.strip() for line in solution.splitlines() if line.strip()]
    answer = answer.strip().strip("$").strip()
    boxed = _BOXED.fullmatch(answer)
    return "\n".join([*lines, STATED[form](boxed[1] if boxed else answer)])
