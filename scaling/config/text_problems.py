"""The settings of problem sets in plain language, with their defaults: GSM8K, MATH and a user's own rows.

In: plain mappings. Out: the frozen config that `data.problems.text_problems` takes. These sets are finite, and a policy
for them is a pretrained one (`policy.hf`): nothing here is learned from scratch.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scaling.config.section import LATER, Count, Distinct, Positive, Section, Text

AnswerForm = Literal["hashes", "boxed", "phrase", "last_number"]
AnswerForms = Annotated[tuple[AnswerForm, ...], Field(strict=False, min_length=1), Distinct]

_GSM8K_INSTRUCTION = (
    "Reason step by step, one step on each line. End with a line of #### and the answer, such as #### 42."
)
_MATH_INSTRUCTION = "Reason step by step, one step on each line, and put the final answer in \\boxed{}."


class Solvable(Section):
    """Keep the training problems that the base policy sometimes solves."""

    samples: Count = 16  # completions of each candidate
    min_correct: Count = 1  # of them that must be right
    num_candidates: Count = 512  # training problems that are tried
    shots: Annotated[int, Field(ge=0)] = 0  # solved examples before each candidate, of other training problems
    order: Literal["fewest_steps", "random"] = "fewest_steps"  # which are tried, and which kept ones come first
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    max_new_tokens: Annotated[Count | None, LATER] = None  # of a completion; null: what the family says

    @model_validator(mode="after")
    def _attainable(self) -> "Solvable":
        if self.min_correct > self.samples:
            raise ValueError(
                f"min_correct is {self.min_correct}, but only {self.samples} completions are sampled; raise samples."
            )
        return self


class TextProblems(Section):
    """The settings that all sets in plain language share."""

    family: str
    path: Text | None = None  # a local file or folder; its content is part of a stage's identity, the path is not
    step_unit: Literal["line", "sentence"] = "line"
    instruction: str = _GSM8K_INSTRUCTION  # follows every problem after a blank line
    answer_forms: AnswerForms = ("hashes",)  # how a completion states its answer; the first that it uses counts
    step_rules: Literal[2] = 2  # version of the rules that cut steps, and what is behind an answer
    grader: Literal[3] = 3  # version of the rules for equal answers: part of every reward's identity
    solvable: Solvable | None = None
    num_validation: Count = 512
    num_test: Count = 1319


class HubProblems(TextProblems):
    """A set of the Hugging Face hub, or its files at `path`."""

    hub: Text
    subset: Text
    revision: Text | None = None  # branch, tag or commit

    @model_validator(mode="after")
    def _one_source(self) -> "HubProblems":
        if self.path is not None and self.revision is not None:
            raise ValueError(
                f"revision is {self.revision!r}, but path {self.path!r} is on this machine; leave one out."
            )
        return self


class Gsm8k(HubProblems):
    """Grade-school problems in words (Cobbe et al. 2021, arXiv 2110.14168)."""

    family: Literal["gsm8k"] = "gsm8k"
    hub: Text = "openai/gsm8k"
    subset: Text = "main"
    calculator_marks: bool = False  # keep <<48/2=24>> in the solutions


class Math(HubProblems):
    """Competition problems (Hendrycks et al. 2021, arXiv 2103.03874)."""

    family: Literal["math"] = "math"
    hub: Text = "DigitalLearningGmbH/MATH-lighteval"
    subset: Text = "default"
    instruction: str = _MATH_INSTRUCTION
    answer_forms: AnswerForms = ("boxed",)
    num_test: Count = 5000


class Jsonl(TextProblems):
    """Your own rows, in files."""

    family: Literal["jsonl"] = "jsonl"
    prompt_key: Text = "prompt"
    answer_key: Text = "answer"
    solution_key: Text = "solution"  # may be missing in a row
    verifier: Annotated[Text | None, LATER] = None  # of an imported module, in place of comparing answers
    num_validation: Count = 128
    num_test: Count = 256

    @model_validator(mode="after")
    def _keys_differ(self) -> "Jsonl":
        keys = {"prompt_key": self.prompt_key, "answer_key": self.answer_key, "solution_key": self.solution_key}
        for name, key in keys.items():
            if (first := next(other for other in keys if keys[other] == key)) != name:
                raise ValueError(f"{name} is {key!r}, as {first} is; name a key of its own.")
        return self
