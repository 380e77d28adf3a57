"""From a cell and a seed to the chain of stages that an algorithm needs: the one place where recipes are told.

In: `Cell` and a seed. Out: `Stage`s that point at their inputs. Two cells that need the same stage build equal
stages, so sharing needs no bookkeeping: all algorithms share the base policy and, per size and seed, the synthetic
problems, the SFT policy and one set of rollouts. A stage's config holds only what changes its result: the teacher
does not see the number of test problems, the SFT policy does not see DPO's beta.

A cell of several rounds is the same cell with one round less, and one more round on top: `sampled_policy` is the SFT
policy in round 1, and from then on what the round before trained. All else follows from it.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from scaling.config import Cell
from scaling.data_config import Evaluation, Rollouts
from scaling.sampled_stages import sampled
from scaling.section import Section
from scaling.set_stages import answering, holding_out, judging, problem_source, teaching
from scaling.stage import Stage
from scaling.teacher_config import how_it_is_asked, what_is_written
from scaling.text_problem_config import Solvable, TextProblems

# A recipe asks for the same inputs several times; a stage and its digest are made once for each cell and seed.
_once = lru_cache(maxsize=1024)


def evaluation(cell: Cell, seed: int) -> Stage:
    """The policy of this cell and seed on the test problems."""
    apart = {"critical_steps", "max_new_tokens"}  # critical steps are measured by stages of their own
    if not cell.evaluation.describe:
        apart.add("describe")  # artifacts from before this key keep their digests
    settings = _plain(cell.evaluation, apart) | _limit(cell.evaluation)
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
    if isinstance(cell.problems, TextProblems):
        problems = holding_out(cell.problems)
    else:
        problems = {key: value for key, value in _plain(cell.problems).items() if key not in unseen}
    return Stage("problems", {"problems": problems}, problem_source(cell.problems), slug=cell.problems.family)


@_once
def solvable(cell: Cell) -> Stage:
    """The training problems of a set that the base policy solves sometimes: one choice for all sizes and seeds."""
    settings = _plain(cell.problems.solvable, {"max_new_tokens"}) | _limit(cell.problems.solvable)
    inputs = {**problem_source(cell.problems), "policy": base_policy(cell), **_tokenizer(cell)}
    problems = teaching(cell.problems) | judging(cell.problems)  # it counts steps
    config = {"problems": problems, "solvable": settings}
    return Stage("solvable", config, inputs, slug=f"{cell.problems.family}-{base_policy(cell).slug}")


@_once
def synthetic(cell: Cell, seed: int) -> Stage:
    """D_syn: the first data_size problems of the seed's stream with the teacher's solutions.

    A chat model writes its own, from the training problems, and stays clear of the validation and test problems.
    """
    config = {
        "problems": teaching(cell.problems) if isinstance(cell.problems, TextProblems) else _family(cell),
        "teacher": what_is_written(cell.teacher),
        "data_size": cell.data_size,
        "seed": seed,
    }
    if cell.teacher.named:
        execution = {"asking": how_it_is_asked(cell.teacher)}
        return Stage("teacher", config, {"problems": fixed_problems(cell)}, _slug(cell, seed), execution=execution)
    inputs = problem_source(cell.problems)
    if isinstance(cell.problems, TextProblems) and cell.problems.solvable is not None:
        inputs["solvable"] = solvable(cell)
    return Stage("teacher", config, inputs, slug=_slug(cell, seed))


@_once
def sft_policy(cell: Cell, seed: int) -> Stage:
    """SFT of the base policy on D_syn."""
    config = {"problems": _answers(cell), "sft": _plain(cell.sft), "seed": seed, **_lora(cell)}
    inputs = {"base": base_policy(cell), "synthetic": synthetic(cell, seed), **_tokenizer(cell)}
    return Stage("sft", config, inputs, slug=_slug(cell, seed))


@_once
def sampled_policy(cell: Cell, seed: int) -> Stage:
    """The policy that the cell's last round samples from: the SFT policy, or what the round before trained."""
    return sft_policy(cell, seed) if cell.rounds == 1 else trained_policy(_before(cell), seed)


@_once
def rollouts(cell: Cell, seed: int) -> Stage:
    """Completions of D_syn's problems by the policy that the round begins with."""
    settings = _plain(cell.rollouts, {"max_new_tokens"}) | _limit(cell.rollouts)
    config = {"problems": _answers(cell), "rollouts": settings, **_randomness(cell, seed)}
    policy = sampled_policy(cell, seed)
    inputs = {"policy": policy, "synthetic": synthetic(cell, seed), **_tokenizer(cell), **_base(cell)}
    return sampled(cell, Stage("rollouts", config, inputs, slug=_round_slug(cell, seed)))


@_once
def verification(cell: Cell, seed: int) -> Stage:
    """Rewards and step verdicts of the rollouts."""
    inputs = {"rollouts": rollouts(cell, seed), "synthetic": synthetic(cell, seed), **_tokenizer(cell)}
    return Stage("verification", {"problems": _family(cell)}, inputs, slug=_round_slug(cell, seed))


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
        **_randomness(cell, seed),
        **_limit(cell.rollouts),
    }
    inputs = {**_rollout_inputs(cell, seed), "policy": sampled_policy(cell, seed), **_base(cell)}
    return sampled(cell, Stage("step_values", config, inputs, slug=f"{_round_slug(cell, seed)}-{traces}"))


@_once
def positives(cell: Cell, seed: int) -> Stage:
    """The positives that RFT learns from: those of the round, and of the rounds before it where they are pooled."""
    chosen = {"max_positives": cell.rft.max_positives, "keep": cell.rft.keep}
    config = {"problems": _answers(cell), "positives": chosen, **_randomness(cell, seed)}
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
    config = {"problems": _answers(cell), "pairs": pairing, **_randomness(cell, seed)}
    pairs = Stage("pairs", config, _rollout_inputs(cell, seed), slug=_round_slug(cell, seed))
    return _preference_stage(cell, seed, cell.dpo, pairs, exclude=set(pairing))


def step_dpo_policy(cell: Cell, seed: int) -> Stage:
    """DPO on pairs made at the first pit: the same training stage as DPO, other pairs."""
    pairing = {"pair_mode": cell.step_dpo.pair_mode, "pit_rule": cell.step_dpo.pit_rule}
    config = {"problems": _family(cell), "pairs": pairing, **_randomness(cell, seed)}
    values = step_values(cell, seed, "negatives", cell.step_values.negatives_per_problem)
    inputs = {**_rollout_inputs(cell, seed), "step_values": values}
    pairs = Stage("step_pairs", config, inputs, slug=f"{_round_slug(cell, seed)}-{cell.step_dpo.pair_mode}")
    return _preference_stage(cell, seed, cell.step_dpo, pairs, exclude=set(pairing))


def step_rft_policy(cell: Cell, seed: int) -> Stage:
    """SFT on the steps with a positive advantage, of right and wrong traces alike."""
    filtering = {"min_advantage": cell.step_rft.min_advantage}
    values = step_values(cell, seed, "all", cell.step_rft.traces_per_problem)
    inputs = {**_rollout_inputs(cell, seed), "step_values": values}
    config = {"problems": _family(cell), "good_steps": filtering}
    steps = Stage("good_steps", config, inputs, slug=_round_slug(cell, seed))
    exclude = {"min_advantage", "traces_per_problem"}
    return _learning_stage("step_rft", cell, seed, cell.step_rft, {"good_steps": steps}, exclude)


def derived_seed(seed: int, use: int) -> int:
    """A seed for each use of a run's; use 0 is the seed itself.

    Multiples of this odd number keep far apart modulo 2^32: no two of some hundred uses of seeds below a million agree.
    """
    return (seed + use * 0x9E3779B9) % 2**32


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
    full = {"problems": _answers(cell), **config, "seed": seed}
    inputs = {"policy": policy, "problems": fixed_problems(cell), **_tokenizer(cell)}
    if policy.kind != "pretrain":
        inputs |= _base(cell)
    slug = f"{policy.kind}-{policy.slug}-{config['split']}"
    return sampled(cell, Stage("evaluation", full, inputs, slug=slug))


def _greedy(cell: Cell) -> dict[str, object]:
    return {"samples_per_problem": 0, "pass_at": [], **_limit(cell.evaluation)}


def _limit(section: Rollouts | Evaluation | Solvable) -> dict[str, object]:
    """max_new_tokens where it is set: artifacts from before this key keep their digests."""
    return {} if section.max_new_tokens is None else {"max_new_tokens": section.max_new_tokens}


def _learning_stage(
    kind: str, cell: Cell, seed: int, settings: Section, data: Mapping[str, Stage], exclude: set[str]
) -> Stage:
    """NLL training from the base policy or the one that was sampled, with D_syn mixed in where the settings say so."""
    config = {"problems": _answers(cell), kind: _plain(settings, exclude), **_randomness(cell, seed), **_lora(cell)}
    start = base_policy(cell) if settings.start == "base" else sampled_policy(cell, seed)
    inputs = {"start": start, "synthetic": synthetic(cell, seed), **data, **_tokenizer(cell), **_base(cell)}
    return Stage(kind, config, inputs, slug=_round_slug(cell, seed))


def _preference_stage(cell: Cell, seed: int, settings: Section, pairs: Stage, exclude: set[str]) -> Stage:
    config = {"dpo": _plain(settings, exclude), **_randomness(cell, seed), **_lora(cell)}
    inputs = {"reference": sampled_policy(cell, seed), "pairs": pairs, **_base(cell)}
    return Stage("dpo", config, inputs, slug=f"{_round_slug(cell, seed)}-{pairs.kind}")


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
    if isinstance(cell.problems, TextProblems):
        return judging(cell.problems)
    held_out = {"num_validation", "num_test", "web_confidence"}
    return {key: value for key, value in _plain(cell.problems).items() if key not in held_out}


def _answers(cell: Cell) -> dict[str, object]:
    """The same without what cuts steps in plain language, for stages that look at whole completions."""
    return answering(cell.problems) if isinstance(cell.problems, TextProblems) else _family(cell)


def _plain(section: Section, exclude: set[str] | None = None) -> dict[str, object]:
    return section.model_dump(mode="json", exclude=exclude)


def _before(cell: Cell) -> Cell:
    """The cell without its last round."""
    return cell.model_copy(update={"rounds": cell.rounds - 1})


def _randomness(cell: Cell, seed: int) -> dict[str, int]:
    """The seed of one round's stages: the run's own in round 1, later one that no other round of any run has."""
    later = {"round": cell.rounds} if cell.rounds > 1 else {}
    return {"seed": derived_seed(seed, cell.rounds - 1), **later}


def _slug(cell: Cell, seed: int) -> str:
    return f"d{cell.data_size}-s{seed}"


def _round_slug(cell: Cell, seed: int) -> str:
    return _slug(cell, seed) + (f"-r{cell.rounds}" if cell.rounds > 1 else "")
