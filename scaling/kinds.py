"""The record of a kind of stage: its version, its function, its cost, and what it samples.

Out: `kind_of(name)`, the single source of everything that depends on a stage's kind. Functions are named as
"module:function" and loaded when they are called, so that planning imports neither jax nor ray. A module from outside
the repository registers its own kinds (docs/plugins.md); there is no default for an unknown kind.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from scaling.registry import Registry, stamped

Function = str | Callable[..., Any]  # "module:function", or the function itself
ResourceClass = Literal["train", "rollouts", "host"]  # which entry of a sweep's `resources` a stage asks for


@dataclass(frozen=True)
class Sampling:
    """How a stage samples, according to its config and the sweep file."""

    section: str | None  # the section of the stage's config that may hold max_new_tokens; None: the config itself
    sweep_key: str  # where the sweep file sets max_new_tokens, for messages
    per_prompt: str | None = None  # the section's key for completions of one prompt, which share its prefill
    from_prefixes: bool = False  # it continues prefixes that end anywhere in a completion, on average half-way


@dataclass(frozen=True)
class Kind:
    """One kind of stage. Bump `version` in the commit that changes what the stage computes."""

    name: str
    version: int
    resource_class: ResourceClass
    run: Function  # (config, inputs, out) -> its numbers by name
    work: Function  # (stage) -> scaling.pricing.costs.Cost, an upper estimate
    memory: Function | None = None  # (stage, Device) -> its compiled calls; None if no policy is used here
    samples: Sampling | None = None
    computed_here: str = ""  # why a server of `sampler` does not do its work, if one might expect it
    problems: Function | None = None  # (stage) -> the number of problems that later stages work on
    rows: Function | None = None  # (stage) -> rows it gives a learner for each problem, at most
    verified: Function | None = None  # (stage, its numbers) -> solutions made here that are verified for training
    numbers: tuple[str, ...] = ()  # numbers of its record that describe a run's data: columns of runs.csv
    makes_base: bool = False  # it makes a base policy, whose cost a whole study shares
    source: str = ""  # digest of the module that registered it; part of its stages' identity. Empty: this project's


def loaded(function: Function) -> Callable[..., Any]:
    """The function that "module:function" names."""
    if not isinstance(function, str):
        return function
    module, colon, name = function.partition(":")
    if not colon:
        raise ValueError(f"{function!r} is not the name of a function; write it as 'package.module:function'.")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


_LEARNED = ("num_learned_steps", "num_spurious_steps", "num_spurious_traces")
_WITHOUT = "problems_without_data_fraction"
_WORK, _MEMORY = "scaling.pricing.work", "scaling.pricing.programs"
_NOTHING = f"{_WORK}:nothing"

_REGISTRY = Registry(
    "stage kind",
    (
        Kind(
            "pretrain", 1, "train", "algorithms.pretrain:run",
            work=f"{_WORK}:pretrain", memory=f"{_MEMORY}:training", makes_base=True,
        ),
        Kind(
            "oracle", 1, "train", "algorithms.pretrain:run_oracle",
            work=f"{_WORK}:pretrain", memory=f"{_MEMORY}:pretraining",
        ),
        Kind("problem_source", 1, "host", "data.sets.problem_source:run", work=_NOTHING),
        Kind("problems", 1, "host", "data.sets.problem_sets:run", work=_NOTHING),
        Kind(
            "solvable", 1, "rollouts", "data.sets.solvable:run",
            work=f"{_WORK}:solvable", memory=f"{_MEMORY}:sampling",
            samples=Sampling("solvable", "problems.solvable", per_prompt="samples"),
            computed_here="the choice of problems.solvable is sampled here", verified=f"{_WORK}:candidates_tried",
            numbers=("num_candidates", "num_solvable"),
        ),
        Kind(
            "teacher", 1, "host", "data.teacher.synthetic:run",
            work=f"{_WORK}:teacher", problems=f"{_WORK}:problems_of_teacher", verified=f"{_WORK}:solutions_of_teacher",
        ),
        Kind("sft", 1, "train", "algorithms.sft:run", work=f"{_WORK}:sft", memory=f"{_MEMORY}:training"),
        Kind(
            "filtered", 1, "train", "algorithms.filtered_sft:run",
            work=f"{_WORK}:filtered", memory=f"{_MEMORY}:scoring", numbers=("kept_fraction",),
        ),
        Kind(
            "rollouts", 1, "rollouts", "data.rollouts:run",
            work=f"{_WORK}:rollouts", memory=f"{_MEMORY}:sampling",
            samples=Sampling("rollouts", "rollouts", per_prompt="samples_per_problem"),
            verified=f"{_WORK}:rollouts_made",
        ),
        Kind("verification", 1, "host", "data.verifier:run", work=_NOTHING),
        Kind(
            "step_values", 1, "rollouts", "data.step_values:run",
            work=f"{_WORK}:step_values", memory=f"{_MEMORY}:sampling",
            samples=Sampling(None, "rollouts", from_prefixes=True), verified=f"{_WORK}:continuations_made",
        ),
        Kind(
            "positives", 1, "host", "algorithms.rft:select_positives",
            work=_NOTHING, rows=f"{_WORK}:rows_of_positives", numbers=("num_positives", _WITHOUT, *_LEARNED),
        ),
        Kind(
            "pairs", 2, "host", "data.pairs:run",
            work=_NOTHING, rows=f"{_WORK}:rows_of_pairs", numbers=("num_pairs", _WITHOUT),
        ),
        Kind(
            "step_pairs", 2, "host", "data.pairs:run_at_pits",
            work=_NOTHING, rows=f"{_WORK}:rows_of_traces", numbers=("num_pairs", _WITHOUT, "mean_pit"),
        ),
        Kind(
            "good_steps", 1, "host", "algorithms.step_rft:select_steps",
            work=_NOTHING, rows=f"{_WORK}:rows_of_traces",
            numbers=("kept_steps_fraction", _WITHOUT, *_LEARNED, "num_wrong_steps"),
        ),
        Kind(
            "advantage_pairs", 1, "host", "data.advantage_pairs:run",
            work=_NOTHING, rows=f"{_WORK}:rows_of_steps", numbers=("num_pairs", _WITHOUT),
        ),
        Kind(
            "weighted_steps", 1, "host", "algorithms.awr:weigh_steps",
            work=_NOTHING, rows=f"{_WORK}:rows_of_traces", numbers=("effective_steps_fraction",),
        ),
        Kind(
            "labelled", 1, "host", "algorithms.kto:label_completions",
            work=_NOTHING, rows=f"{_WORK}:rows_of_labelled", numbers=("num_desirable", "num_undesirable", _WITHOUT),
        ),
        Kind(
            "labelled_steps", 1, "host", "algorithms.kto:label_steps",
            work=_NOTHING, rows=f"{_WORK}:rows_of_steps", numbers=("num_desirable", "num_undesirable", _WITHOUT),
        ),
        Kind("rft", 1, "train", "algorithms.rft:run", work=f"{_WORK}:learning", memory=f"{_MEMORY}:training"),
        Kind(
            "dpo", 1, "train", "algorithms.dpo:run",
            work=f"{_WORK}:training_on_pairs", memory=f"{_MEMORY}:training_on_pairs",
        ),
        Kind(
            "step_rft", 1, "train", "algorithms.step_rft:run",
            work=f"{_WORK}:learning", memory=f"{_MEMORY}:training",
        ),
        Kind("awr", 1, "train", "algorithms.awr:run", work=f"{_WORK}:learning", memory=f"{_MEMORY}:training"),
        Kind("kto", 1, "train", "algorithms.kto:run", work=f"{_WORK}:kto", memory=f"{_MEMORY}:training_with_twins"),
        Kind(
            "group_pg", 1, "train", "algorithms.group_pg:run", work=f"{_WORK}:group_pg", memory=f"{_MEMORY}:on_policy",
            samples=Sampling("group_pg", "group_pg", per_prompt="samples_per_problem"),
            computed_here="group_pg samples here, from the policy of the moment", verified=f"{_WORK}:rollouts_made",
            numbers=("mean_reward", "mean_entropy", "groups_without_gradient_fraction"),
        ),
        Kind(
            "step_pg", 1, "train", "algorithms.step_pg:run", work=f"{_WORK}:step_pg", memory=f"{_MEMORY}:on_policy",
            samples=Sampling("step_pg", "step_pg", per_prompt="samples_per_problem"),
            computed_here="step_pg samples here, from the policy of the moment",
            verified=f"{_WORK}:rollouts_and_continuations_made",
            numbers=("mean_reward", "mean_entropy", "groups_without_gradient_fraction"),
        ),
        Kind(
            "distill", 1, "train", "algorithms.distill:run", work=f"{_WORK}:distill", memory=f"{_MEMORY}:distilling",
            samples=Sampling("distill", "distill", per_prompt="samples_per_problem"),
            computed_here="distill samples here, from the policy of the moment", verified=f"{_WORK}:rollouts_made",
            numbers=("mean_reward", "mean_entropy"),
        ),
        Kind(
            "best_checkpoint", 1, "rollouts", "data.best_checkpoint:run",
            work=f"{_WORK}:best_checkpoint", memory=f"{_MEMORY}:sampling", samples=Sampling("evaluation", "evaluation"),
            computed_here="the policies of a training run are compared here", verified=f"{_WORK}:rollouts_made",
            numbers=("checkpoint_fraction",),
        ),
        Kind(
            "evaluation", 1, "rollouts", "data.evaluation:run",
            work=f"{_WORK}:evaluation", memory=f"{_MEMORY}:sampling", samples=Sampling("evaluation", "evaluation"),
        ),
        Kind(
            "critical_traces", 1, "rollouts", "data.critical_steps:select_traces",
            work=f"{_WORK}:rollouts", memory=f"{_MEMORY}:sampling", problems=f"{_WORK}:problems_of_traces",
            samples=Sampling("rollouts", "rollouts", per_prompt="samples_per_problem"),
        ),
        Kind(
            "critical_steps", 1, "rollouts", "data.critical_steps:run",
            work=f"{_WORK}:critical_steps", memory=f"{_MEMORY}:scoring",
            computed_here="critical_steps reads its traces here, in one forward pass each",
        ),
    ),
    "A kind from outside this project is known once its module is imported: --import FILE, or imports: [FILE] in the"
    " sweep file.",
)  # fmt: skip
BUILT_IN, kind_of, kind_names = _REGISTRY.built_in, _REGISTRY.of, _REGISTRY.names


def register_kind(kind: Kind) -> Kind:
    """Register a kind from outside. Raises ValueError if another record has its name."""
    return _REGISTRY.register(stamped(kind))
