"""What policies learn from and are measured on: rollouts, step values, evaluation, and who samples.

In: plain mappings. Out: the frozen settings that the stages in `data` read. Where the paper (Setlur et al. 2024,
arXiv 2406.14532) does not state a setting, the default is marked as a substitute.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from scaling.config.section import LATER, Count, Distinct, Fraction, MayBeAbsent, NonNegative, Positive, Section, Text
from scaling.config.server import Server

# While a stage samples an exported policy, it touches `<name>.wanted` in the folder of exports (scaling.serve).
WANTED_SUFFIX = ".wanted"
TOUCH_SECONDS = 10.0  # between two touches


class Rollouts(Section):
    """Completions sampled from the SFT or the base policy, shared by every algorithm that learns from them."""

    samples_per_problem: Count = 8
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    max_new_tokens: Annotated[Count | None, LATER] = None  # continued prefixes included; null: as the family says
    policy: Annotated[Literal["sft", "base"], LATER] = "sft"  # writes them, and continues prefixes, in round 1


class Verifier(Section):
    """How answers are judged for the rewards of rollouts and step values. Evaluation and teachers are always exact."""

    classes: Annotated[int, Field(ge=2)] | None = None  # answers count as equal modulo it; 10: the last digit decides
    false_positive: Fraction = 0.0  # chance that a wrong completion is accepted, drawn once for each

    @property
    def is_exact(self) -> bool:
        return self == Verifier()


class StepValues(Section):
    """Monte Carlo estimates of the chance to be right after a step."""

    rollouts_per_prefix: Count = 4  # M
    best_of: Annotated[Count, MayBeAbsent(left_out_at_default=False)] = 1  # K, at most M; the paper's is 5
    negatives_per_problem: Count = 2  # the paper's is 8
    temperature: Positive = 1.0
    adaptive: Annotated[bool, LATER] = False  # sample what the first pits of negatives need, not M after every step

    @model_validator(mode="after")
    def _estimable(self) -> "StepValues":
        if self.best_of > self.rollouts_per_prefix:
            raise ValueError(
                f"best_of is {self.best_of}, more than rollouts_per_prefix = {self.rollouts_per_prefix}; best-of-K has"
                " an unbiased estimate only from at least K rollouts: raise rollouts_per_prefix or lower best_of."
            )
        return self


class CriticalSteps(Section):
    """How well a policy continues wrong traces of the SFT policy, step by step."""

    problems: Count = 256  # test problems to sample; those with a wrong completion give traces
    traces: Count = 1  # per problem, at most
    rollouts_per_prefix: Count = 8


def _as_json(value: object) -> object:
    """A mapping as text, so that the section stays frozen to the last; text as dumped from a section stays."""
    if isinstance(value, Mapping):
        return json.dumps({str(key): item for key, item in value.items()}, sort_keys=True, default=str)
    if isinstance(value, str) and value.startswith("{"):
        return value
    raise ValueError(f"is {value!r}; expected a mapping of keys of the section problems, such as {{operands: 5}}.")


class TestSet(Section):
    """Test problems beside those of the study, each set a panel of its own."""

    __test__ = False  # for pytest, which would collect it

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    problems: Annotated[str, BeforeValidator(_as_json)]  # keys of the section `problems` with other values, as JSON

    @property
    def changes(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.problems)
        return found


class Evaluation(Section):
    """What is measured on the test problems. Greedy pass@1 always is."""

    samples_per_problem: Annotated[int, Field(ge=0)] = 4  # for pass@k; 0 measures greedy pass@1 only
    pass_at: Annotated[tuple[Count, ...], Field(strict=False), Distinct] = (4,)
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    max_new_tokens: Annotated[Count | None, LATER] = None  # of a completion; null: what the family says
    describe: Annotated[bool, LATER] = False  # sampled completions: spurious steps, wrong facts, diversity
    critical_steps: CriticalSteps | None = None
    sets: Annotated[tuple[TestSet, ...], Field(strict=False), LATER] = ()  # further test sets

    @model_validator(mode="after")
    def _names_differ(self) -> "Evaluation":
        names = [one.name for one in self.sets]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"sets has {repeated[0]!r} more than once; each is a panel: give every set its own name.")
        return self

    @model_validator(mode="after")
    def _enough_samples(self) -> "Evaluation":
        if self.describe and not self.samples_per_problem:
            raise ValueError(
                "describe is true, but samples_per_problem is 0, so there are no completions to describe; raise"
                " samples_per_problem."
            )
        too_large = [k for k in self.pass_at if k > self.samples_per_problem]
        if too_large and self.samples_per_problem:
            raise ValueError(
                f"pass_at asks for k = {too_large[0]}, but samples_per_problem is {self.samples_per_problem}; the"
                " unbiased estimate needs at least k samples: raise samples_per_problem."
            )
        return self


class Checkpoint(Section):
    """Which policy of a training run is its result; the same for every learner."""

    keep: Literal["last", "best"] = "last"  # best: on the validation problems, greedy
    among: Annotated[int, Field(ge=2)] = 8  # policies of a run, evenly spaced, the last one among them


class Sampler(Server):
    """A user's completion server, which samples in place of this project; what is sampled stays the same."""

    api_key_env: Text | None = None
    max_concurrency: Count = 64
    timeout_seconds: Positive = 600.0
    max_tries: Count = 8
    export: bool = False  # write each policy as a checkpoint that the server is to serve under the policy's name
    folder: Text = "results/exports"  # of these checkpoints; the server sees it
    model: Text | None = None  # the server's name of the policy; with export its own
    wait_minutes: NonNegative = 60.0  # for a server that serves the policy

    @model_validator(mode="after")
    def _known(self) -> "Sampler":
        if not self.export and self.model is None:
            raise ValueError(
                "model is missing; without export: true the policy on the server is unknown here, so name the"
                " model that it serves, or set export: true."
            )
        return self
