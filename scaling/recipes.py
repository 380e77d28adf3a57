"""From a cell and a seed to the chain of stages that an algorithm needs: the one place where recipes are told.

In: `Cell` and a seed. Out: `Stage`s that point at their inputs. Two cells that need the same stage build equal
stages, so sharing needs no bookkeeping: all algorithms share the base policy and, per size and seed, the synthetic
problems, the SFT policy and one set of rollouts. A stage's config holds only what changes its result: the teacher
does not see the number of test problems, the SFT policy does not see DPO's beta.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from scaling.config import Cell
from scaling.section import Section
from scaling.stage import Stage

# A recipe asks for the same inputs several times; a stage and its digest are made once for each cell and seed.
_once = lru_cache(maxsize=1024)


def evaluation(cell: Cell, seed: int) -> Stage:
    """The policy of this cell and seed on the test problems."""
    config = {"evaluation": _plain(cell.evaluation), "split": "test"}
    return _evaluation(cell, seed, trained_policy(cell, seed), config)


def validation(cell: Cell, seed: int) -> Stage:
    """The same policy on the validation problems, greedy only: what selection looks at."""
    config = {"evaluation": {"samples_per_problem": 0, "pass_at": []}, "split": "validation"}
    return _evaluation(cell, seed, trained_policy(cell, seed), config)


def base_evaluation(cell: Cell) -> Stage:
    """The base policy on the test problems, greedy: the error at no synthetic data."""
    config = {"evaluation": {"samples_per_problem": 0, "pass_at": []}, "split": "test"}
    return _evaluation(cell, 0, base_policy(cell), config)


def trained_policy(cell: Cell, seed: int) -> Stage:
    """The policy that the cell's algorithm trains."""
    return RECIPES[cell.algorithm](cell, seed)


@_once
def base_policy(cell: Cell) -> Stage:
    """Pretraining on web text, which the operands' distribution, the teacher and the test set do not change.

    Or the import of a checkpoint, which no setting of the study changes.
    """
    if cell.policy.hf is not None:
        source = {"hf": cell.policy.hf, "revision": cell.policy.revision, **_compute_dtype(cell)}
        return Stage("pretrain", {"policy": source}, slug=cell.policy.hf.rstrip("/").rpartition("/")[2])
    unseen = {"zipf_exponent", "flaw_rate", "num_validation", "num_test"}
    problems = {key: value for key, value in _plain(cell.problems).items() if key not in unseen}
    config = {
        "problems": problems,
        "policy": {"size": cell.policy.size, "base": cell.policy.base, **_compute_dtype(cell)},
        "pretrain": _plain(cell.pretrain),
    }
    if cell.policy.base == "random":
        config["pretrain"] = {"seed": cell.pretrain.seed}
    return Stage("pretrain", config, slug=f"{cell.problems.family}-{cell.policy.size}")


@_once
def fixed_problems(cell: Cell) -> Stage:
    """The validation and test problems, the same for every seed and size."""
    unseen = {"flaw_rate", "web_confidence"}
    problems = {key: value for key, value in _plain(cell.problems).items() if key not in unseen}
    return Stage("problems", {"problems": problems}, slug=cell.problems.family)


@_once
def synthetic(cell: Cell, seed: int) -> Stage:
    """D_syn: the first data_size problems of the seed's stream with the teacher's solutions."""
    config = {
        "problems": _family(cell),
        "teacher": _plain(cell.teacher),
        "data_size": cell.data_size,
        "seed": seed,
    }
    return Stage("teacher", config, slug=_slug(cell, seed))


@_once
def sft_policy(cell: Cell, seed: int) -> Stage:
    """SFT of the base policy on D_syn."""
    config = {"problems": _family(cell), "sft": _plain(cell.sft), "seed": seed, **_lora(cell)}
    inputs = {"base": base_policy(cell), "synthetic": synthetic(cell, seed), **_tokenizer(cell)}
    return Stage("sft", config, inputs, slug=_slug(cell, seed))


@_once
def rollouts(cell: Cell, seed: int) -> Stage:
    """Completions of D_syn's problems by the SFT policy."""
    config = {"problems": _family(cell), "rollouts": _plain(cell.rollouts), "seed": seed}
    inputs = {"policy": sft_policy(cell, seed), "synthetic": synthetic(cell, seed), **_tokenizer(cell), **_base(cell)}
    return Stage("rollouts", config, inputs, slug=_slug(cell, seed))


@_once
def verification(cell: Cell, seed: int) -> Stage:
    """Rewards and step verdicts of the rollouts."""
    inputs = {"rollouts": rollouts(cell, seed), "synthetic": synthetic(cell, seed), **_tokenizer(cell)}
    return Stage("verification", {"problems": _family(cell)}, inputs, slug=_slug(cell, seed))


@_once
def step_values(cell: Cell, seed: int, traces: str, traces_per_problem: int) -> Stage:
    """Q of every step of some rollouts: of `negatives` only, or of `all`."""
    settings = _plain(cell.step_values)
    del settings["negatives_per_problem"]
    if not cell.step_values.adaptive:
        del settings["adaptive"]  # artifacts from before this key keep their digests
    config = {
        "problems": _family(cell),
        "step_values": settings,
        "traces": traces,
        "traces_per_problem": traces_per_problem,
        "seed": seed,
    }
    inputs = {**_rollout_inputs(cell, seed), "policy": sft_policy(cell, seed), **_base(cell)}
    return Stage("step_values", config, inputs, slug=f"{_slug(cell, seed)}-{traces}")


def rft_policy(cell: Cell, seed: int) -> Stage:
    """Rejection-sampling fine-tuning: SFT on the self-generated positives."""
    chosen = {"max_positives": cell.rft.max_positives, "keep": cell.rft.keep}
    config = {"problems": _family(cell), "positives": chosen, "seed": seed}
    positives = Stage("positives", config, _rollout_inputs(cell, seed), slug=_slug(cell, seed))
    return _learning_stage("rft", cell, seed, cell.rft, {"positives": positives}, exclude=set(chosen))


def dpo_policy(cell: Cell, seed: int) -> Stage:
    """DPO on full completions, random or edit-distance pairs."""
    pairing = {"pairing": cell.dpo.pairing, "pairs_per_problem": cell.dpo.pairs_per_problem}
    config = {"problems": _family(cell), "pairs": pairing, "seed": seed}
    pairs = Stage("pairs", config, _rollout_inputs(cell, seed), slug=_slug(cell, seed))
    return _preference_stage(cell, seed, cell.dpo, pairs, exclude=set(pairing))


def step_dpo_policy(cell: Cell, seed: int) -> Stage:
    """DPO on pairs made at the first pit: the same training stage as DPO, other pairs."""
    pairing = {"pair_mode": cell.step_dpo.pair_mode, "pit_rule": cell.step_dpo.pit_rule}
    config = {"problems": _family(cell), "pairs": pairing, "seed": seed}
    values = step_values(cell, seed, "negatives", cell.step_values.negatives_per_problem)
    inputs = {**_rollout_inputs(cell, seed), "step_values": values}
    pairs = Stage("step_pairs", config, inputs, slug=f"{_slug(cell, seed)}-{cell.step_dpo.pair_mode}")
    return _preference_stage(cell, seed, cell.step_dpo, pairs, exclude=set(pairing))


def step_rft_policy(cell: Cell, seed: int) -> Stage:
    """SFT on the steps with a positive advantage, of right and wrong traces alike."""
    filtering = {"min_advantage": cell.step_rft.min_advantage}
    values = step_values(cell, seed, "all", cell.step_rft.traces_per_problem)
    inputs = {**_rollout_inputs(cell, seed), "step_values": values}
    config = {"problems": _family(cell), "good_steps": filtering}
    steps = Stage("good_steps", config, inputs, slug=_slug(cell, seed))
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
    full = {"problems": _family(cell), **config, "seed": seed}
    inputs = {"policy": policy, "problems": fixed_problems(cell), **_tokenizer(cell)}
    if policy.kind != "pretrain":
        inputs |= _base(cell)
    return Stage("evaluation", full, inputs, slug=f"{policy.kind}-{policy.slug}-{config['split']}")


def _learning_stage(
    kind: str, cell: Cell, seed: int, settings: Section, data: Mapping[str, Stage], exclude: set[str]
) -> Stage:
    """NLL training from the base or the SFT policy, with D_syn mixed in where the settings say so."""
    config = {"problems": _family(cell), kind: _plain(settings, exclude), "seed": seed, **_lora(cell)}
    start = base_policy(cell) if settings.start == "base" else sft_policy(cell, seed)
    inputs = {"start": start, "synthetic": synthetic(cell, seed), **data, **_tokenizer(cell), **_base(cell)}
    return Stage(kind, config, inputs, slug=_slug(cell, seed))


def _preference_stage(cell: Cell, seed: int, settings: Section, pairs: Stage, exclude: set[str]) -> Stage:
    config = {"dpo": _plain(settings, exclude), "seed": seed, **_lora(cell)}
    inputs = {"reference": sft_policy(cell, seed), "pairs": pairs, **_base(cell)}
    return Stage("dpo", config, inputs, slug=f"{_slug(cell, seed)}-{pairs.kind}")


def _rollout_inputs(cell: Cell, seed: int) -> dict[str, Stage]:
    return {
        "synthetic": synthetic(cell, seed),
        "rollouts": rollouts(cell, seed),
        "verification": verification(cell, seed),
        **_tokenizer(cell),
    }


def _tokenizer(cell: Cell) -> dict[str, Stage]:
    """The imported policy, which has its tokenizer beside it; embedded policies read the family's words."""
    return {} if cell.policy.hf is None else {"tokenizer": base_policy(cell)}


def _base(cell: Cell) -> dict[str, Stage]:
    """What adapters are merged into, for stages that read a policy trained with LoRA: its artifact holds no more."""
    return {} if cell.policy.lora is None else {"base": base_policy(cell)}


def _lora(cell: Cell) -> dict[str, object]:
    """The setting of a stage that trains. No key where all params are trained: digests from before it stay."""
    return {} if cell.policy.lora is None else {"lora": _plain(cell.policy.lora)}


def _compute_dtype(cell: Cell) -> dict[str, object]:
    """Part of the base policy's shape, which all that descend from it inherit; no key at the default."""
    return {} if cell.policy.compute_dtype == "float32" else {"compute_dtype": cell.policy.compute_dtype}


def _family(cell: Cell) -> dict[str, object]:
    """The problem family without the sizes of the held-out sets, which change no training."""
    held_out = {"num_validation", "num_test", "web_confidence"}
    return {key: value for key, value in _plain(cell.problems).items() if key not in held_out}


def _plain(section: Section, exclude: set[str] | None = None) -> dict[str, object]:
    return section.model_dump(mode="json", exclude=exclude)


def _slug(cell: Cell, seed: int) -> str:
    return f"d{cell.data_size}-s{seed}"
