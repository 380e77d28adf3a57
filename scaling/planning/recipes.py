"""From a cell and a seed to the chain of stages that an algorithm needs: the one place where recipes are told.

In: `Cell` and a seed. Out: `Stage`s that point at their inputs. Two cells that need the same stage build equal
stages, so sharing needs no bookkeeping: all algorithms share the base policy and, per size and seed, the synthetic
problems, the SFT policy and one set of rollouts. A stage's config holds only what changes its result: the teacher
does not see the number of test problems, the SFT policy does not see DPO's beta. What all recipes begin with, up to
the SFT policy, is in `scaling.planning.chain`.

A cell of several rounds is the same cell with one round less, and one more round on top: `sampled_policy` is the SFT
policy in round 1, and from then on what the round before trained. All else follows from it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from scaling.config.section import Section
from scaling.config.sweep import Cell
from scaling.planning.chain import (
    adapters,
    answers,
    base_policy,
    derived_seed,
    family,
    fixed_problems,
    limit,
    once,
    plain,
    sft_policy,
    slug,
    start_of_adapters,
    synthetic,
    tokenizer,
)
from scaling.planning.sampled_stages import sampled
from scaling.stage import Stage


def evaluation(cell: Cell, seed: int) -> Stage:
    """The policy of this cell and seed on the test problems."""
    apart = {"critical_steps", "max_new_tokens"}  # critical steps are measured by stages of their own
    if not cell.evaluation.describe:
        apart.add("describe")  # artifacts from before this key keep their digests
    settings = plain(cell.evaluation, apart) | limit(cell.evaluation)
    config: dict[str, object] = {"evaluation": settings, "split": "test"}
    if cell.evaluation.describe and cell.policy.hf is None and cell.policy.base == "pretrained":
        config["web_seed"] = cell.pretrain.seed  # decides the misconceptions
    return _evaluation(cell, seed, trained_policy(cell, seed), config)


def validation(cell: Cell, seed: int) -> Stage:
    """The same policy on the validation problems, greedy only: what selection looks at."""
    config = {"evaluation": _greedy(cell), "split": "validation"}
    return _evaluation(cell, seed, trained_policy(cell, seed), config)


def base_evaluation(cell: Cell) -> Stage:
    """The base policy on the test problems, greedy: the error at no synthetic data."""
    config = {"evaluation": _greedy(cell), "split": "test"}
    return _evaluation(cell, 0, base_policy(cell), config)


def trained_policy(cell: Cell, seed: int) -> Stage:
    """The policy that the cell's algorithm trains."""
    return RECIPES[cell.algorithm](cell, seed)


@once
def sampled_policy(cell: Cell, seed: int) -> Stage:
    """The policy that the cell's last round samples from: the SFT policy, or what the round before trained."""
    return sft_policy(cell, seed) if cell.rounds == 1 else trained_policy(_before(cell), seed)


@once
def rollouts(cell: Cell, seed: int) -> Stage:
    """Completions of D_syn's problems by the policy that the round begins with."""
    settings = plain(cell.rollouts, {"max_new_tokens"}) | limit(cell.rollouts)
    config = {"problems": answers(cell), "rollouts": settings, **_randomness(cell, seed)}
    policy = sampled_policy(cell, seed)
    inputs = {"policy": policy, "synthetic": synthetic(cell, seed), **tokenizer(cell), **start_of_adapters(cell)}
    return sampled(cell, Stage("rollouts", config, inputs, slug=_round_slug(cell, seed)))


@once
def verification(cell: Cell, seed: int) -> Stage:
    """Rewards and step verdicts of the rollouts."""
    inputs = {"rollouts": rollouts(cell, seed), "synthetic": synthetic(cell, seed), **tokenizer(cell)}
    return Stage("verification", {"problems": family(cell)}, inputs, slug=_round_slug(cell, seed))


@once
def step_values(cell: Cell, seed: int, traces: str, traces_per_problem: int) -> Stage:
    """Q of every step of some rollouts: of `negatives` only, or of `all`."""
    settings = plain(cell.step_values)
    del settings["negatives_per_problem"]
    if not cell.step_values.adaptive:
        del settings["adaptive"]  # artifacts from before this key keep their digests
    config = {
        "problems": family(cell),
        "step_values": settings,
        "traces": traces,
        "traces_per_problem": traces_per_problem,
        **_randomness(cell, seed),
        **limit(cell.rollouts),
    }
    inputs = {**_rollout_inputs(cell, seed), "policy": sampled_policy(cell, seed), **start_of_adapters(cell)}
    named = f"{_round_slug(cell, seed)}-{traces}"
    return sampled(cell, Stage("step_values", config, inputs, slug=named))


@once
def positives(cell: Cell, seed: int) -> Stage:
    """The positives that RFT learns from: those of the round, and of the rounds before it where they are pooled."""
    chosen = {"max_positives": cell.rft.max_positives, "keep": cell.rft.keep}
    config = {"problems": answers(cell), "positives": chosen, **_randomness(cell, seed)}
    inputs = _rollout_inputs(cell, seed)
    if cell.rft.keep in ("low_value", "high_value"):
        inputs["step_values"] = step_values(cell, seed, "all", cell.step_rft.traces_per_problem)
    if cell.rft.pool_rounds and cell.rounds > 1:
        inputs["before"] = positives(_before(cell), seed)
    return Stage("positives", config, inputs, slug=_round_slug(cell, seed))


def rft_policy(cell: Cell, seed: int) -> Stage:
    """Rejection-sampling fine-tuning: SFT on the self-generated positives."""
    exclude = {"max_positives", "keep", "pool_rounds"}
    return _learning_stage("rft", cell, seed, cell.rft, {"positives": positives(cell, seed)}, exclude)


def dpo_policy(cell: Cell, seed: int) -> Stage:
    """DPO on full completions, random or edit-distance pairs."""
    pairing = {"pairing": cell.dpo.pairing, "pairs_per_problem": cell.dpo.pairs_per_problem}
    config = {"problems": answers(cell), "pairs": pairing, **_randomness(cell, seed)}
    pairs = Stage("pairs", config, _rollout_inputs(cell, seed), slug=_round_slug(cell, seed))
    return _preference_stage(cell, seed, cell.dpo, pairs, exclude=set(pairing))


def step_dpo_policy(cell: Cell, seed: int) -> Stage:
    """DPO on pairs made at the first pit: the same training stage as DPO, other pairs."""
    pairing = {"pair_mode": cell.step_dpo.pair_mode, "pit_rule": cell.step_dpo.pit_rule}
    config = {"problems": family(cell), "pairs": pairing, **_randomness(cell, seed)}
    values = step_values(cell, seed, "negatives", cell.step_values.negatives_per_problem)
    inputs = {**_rollout_inputs(cell, seed), "step_values": values}
    pairs = Stage("step_pairs", config, inputs, slug=f"{_round_slug(cell, seed)}-{cell.step_dpo.pair_mode}")
    return _preference_stage(cell, seed, cell.step_dpo, pairs, exclude=set(pairing))


def step_rft_policy(cell: Cell, seed: int) -> Stage:
    """SFT on the steps with a positive advantage, of right and wrong traces alike."""
    filtering = {"min_advantage": cell.step_rft.min_advantage}
    values = step_values(cell, seed, "all", cell.step_rft.traces_per_problem)
    inputs = {**_rollout_inputs(cell, seed), "step_values": values}
    config = {"problems": family(cell), "good_steps": filtering}
    steps = Stage("good_steps", config, inputs, slug=_round_slug(cell, seed))
    exclude = {"min_advantage", "traces_per_problem"}
    return _learning_stage("step_rft", cell, seed, cell.step_rft, {"good_steps": steps}, exclude)


RECIPES: Mapping[str, Callable[[Cell, int], Stage]] = MappingProxyType(
    {
        "sft": sft_policy,
        "rft": rft_policy,
        "dpo": dpo_policy,
        "step_dpo": step_dpo_policy,
        "step_rft": step_rft_policy,
    }
)

# The algorithms whose chosen settings a recipe uses: an algorithm that descends from SFT shares SFT's choice.
ANCESTORS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"sft": (), "rft": ("sft",), "dpo": ("sft",), "step_dpo": ("sft",), "step_rft": ("sft",)}
)


def _evaluation(cell: Cell, seed: int, policy: Stage, config: Mapping[str, object]) -> Stage:
    full = {"problems": answers(cell), **config, "seed": seed}
    inputs = {"policy": policy, "problems": fixed_problems(cell), **tokenizer(cell)}
    if policy.kind != "pretrain":
        inputs |= start_of_adapters(cell)
    named = f"{policy.kind}-{policy.slug}-{config['split']}"
    return sampled(cell, Stage("evaluation", full, inputs, slug=named))


def _greedy(cell: Cell) -> dict[str, object]:
    return {"samples_per_problem": 0, "pass_at": [], **limit(cell.evaluation)}


def _learning_stage(
    kind: str, cell: Cell, seed: int, settings: Section, data: Mapping[str, Stage], exclude: set[str]
) -> Stage:
    """NLL training from the base policy or the one that was sampled, with D_syn mixed in where the settings say so."""
    config = {"problems": answers(cell), kind: plain(settings, exclude), **_randomness(cell, seed), **adapters(cell)}
    start = base_policy(cell) if settings.start == "base" else sampled_policy(cell, seed)
    inputs = {"start": start, "synthetic": synthetic(cell, seed), **data, **tokenizer(cell), **start_of_adapters(cell)}
    return Stage(kind, config, inputs, slug=_round_slug(cell, seed))


def _preference_stage(cell: Cell, seed: int, settings: Section, pairs: Stage, exclude: set[str]) -> Stage:
    config = {"dpo": plain(settings, exclude), **_randomness(cell, seed), **adapters(cell)}
    inputs = {"reference": sampled_policy(cell, seed), "pairs": pairs, **start_of_adapters(cell)}
    return Stage("dpo", config, inputs, slug=f"{_round_slug(cell, seed)}-{pairs.kind}")


def _rollout_inputs(cell: Cell, seed: int) -> dict[str, Stage]:
    return {
        "synthetic": synthetic(cell, seed),
        "rollouts": rollouts(cell, seed),
        "verification": verification(cell, seed),
        **tokenizer(cell),
    }


def _before(cell: Cell) -> Cell:
    """The cell without its last round."""
    return cell.model_copy(update={"rounds": cell.rounds - 1})


def _randomness(cell: Cell, seed: int) -> dict[str, int]:
    """The seed of one round's stages: the run's own in round 1, later one that no other round of any run has."""
    later = {"round": cell.rounds} if cell.rounds > 1 else {}
    return {"seed": derived_seed(seed, cell.rounds - 1), **later}


def _round_slug(cell: Cell, seed: int) -> str:
    return slug(cell, seed) + (f"-r{cell.rounds}" if cell.rounds > 1 else "")
