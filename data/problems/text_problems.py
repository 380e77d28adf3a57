"""Problems in plain language: the functions that GSM8K, MATH and a user's rows share as families.

In: the config of one of the three. Out: the functions of a family. Their problems are the rows of an
imported set (data.sets.finite_splits), their words are the tokens of the policy's checkpoint, and steps are not
judged: their verdicts are None.
"""

from collections.abc import Mapping

import numpy as np

from data.answers.final_answer import final_answer, form_used, same_answer
from data.answers.user_verifiers import is_right
from data.problems.text_cuts import CUTS, sentence_cuts
from data.records import Check, Problem, StepCheck
from scaling.config.problems import ProblemsInLanguage
from scaling.config.section import is_stated
from scaling.config.text_problems import Jsonl

# Tokens that the longest problems, instruction and chat template included, and solutions take.
_MAX_PROMPT: Mapping[str, int] = {"gsm8k": 320, "math": 800, "jsonl": 800}
_MAX_COMPLETION: Mapping[str, int] = {"gsm8k": 400, "math": 1024, "jsonl": 1024}
_MAX_STEPS: Mapping[str, int] = {"gsm8k": 12, "math": 24, "jsonl": 24}


def vocabulary(config: ProblemsInLanguage) -> tuple[str, ...]:
    """No words of its own: lengths are counted in the policy's tokens."""
    return ()


def max_prompt_words(config: ProblemsInLanguage) -> int:
    """An estimate for costs: no prompt is cut."""
    return _MAX_PROMPT[config.family]


def max_completion_words(config: ProblemsInLanguage) -> int:
    """The limit of a completion if the sweep sets no max_new_tokens."""
    return _MAX_COMPLETION[config.family]


def max_steps(config: ProblemsInLanguage) -> int:
    """An estimate for costs."""
    return _MAX_STEPS[config.family]


def prompt_of(config: ProblemsInLanguage, problem: str) -> str:
    """The prompt: the problem and, after a blank line, the instruction."""
    return f"{problem}\n\n{config.instruction}" if config.instruction else problem


def solve(config: ProblemsInLanguage, problem: Problem, rng: np.random.Generator) -> str:
    """The set's own solution."""
    if problem.solution is None:
        raise ValueError(
            f"problem {problem.prompt[:60]!r} has no solution of its own, and no other teacher is set; add solutions to"
            " the rows."
        )
    return problem.solution


def answer(config: ProblemsInLanguage, completion: str) -> str | None:
    """The final answer, if the completion states one in a configured form."""
    return final_answer(completion, config.answer_forms)


def check(config: ProblemsInLanguage, problem: Problem, completion: str) -> Check:
    """Verdict on any string: the answer is compared; the steps have only texts."""
    given = answer(config, completion)
    if isinstance(config, Jsonl) and config.verifier is not None:
        given = completion if given is None else given  # a user's verifier decides which parts to read
        reward = float(is_right(config.verifier, completion, problem.answer))
    else:
        reward = float(given is not None and same_answer(given, problem.answer))
    # Stages that look at answers alone have no step_unit in their config: to them a completion is one step.
    has_steps = is_stated(config, "step_unit")
    texts = step_texts(config, completion[: answer_end(config, completion)]) if has_steps else [completion]
    return Check(reward, given, tuple(StepCheck(text, None, None) for text in texts))


def step_texts(config: ProblemsInLanguage, completion: str) -> list[str]:
    """The steps of a completion; joined they are the completion. At least one."""
    cuts = CUTS[config.step_unit](completion)
    return [completion[start:end] for start, end in zip([0, *cuts], [*cuts, len(completion)], strict=True)]


def answer_end(config: ProblemsInLanguage, completion: str) -> int:
    """The offset behind the sentence that first states the answer that counts: what follows is no reasoning.

    The completion's length where no answer is stated, where the last number is the answer, and where a user's verifier
    decides which parts to read.
    """
    form, given = form_used(completion, config.answer_forms), answer(config, completion)
    if given is None or form in (None, "last_number") or (isinstance(config, Jsonl) and config.verifier is not None):
        return len(completion)
    ends = (cut for cut in sentence_cuts(completion) if final_answer(completion[:cut], (form,)) == given)
    return len(completion[: next(ends, len(completion))].rstrip())
