"""From a cell and a seed to the chain of stages that an algorithm needs: the one place where recipes are defined.

In: `Cell` and a seed. Out: `Stage`s that point at their inputs. Two cells that need the same stage build equal
stages, so sharing needs no bookkeeping: all algorithms share the base policy and, per size and seed, the synthetic
problems, the SFT policy and one set of rollouts. A stage's config holds only what changes its result: the teacher
does not see the number of test problems, the SFT policy does not see DPO's beta. What all recipes begin with, up to
the SFT policy, is in `scaling.planning.chain`.

A cell of several rounds is the same cell with one round less, and one more round on top: `sampled_policy` is the SFT
policy in round 1, and from then on what the round before trained. All else follows from it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from scaling.config.algorithms import algorithm_of
from scaling.config.on_policy import Distill, GroupPg, OnPolicy, StepPg
from scaling.config.sampling import TestSet
from scaling.config.section import part, plain
from scaling.config.sweep import Cell
from scaling.config.training import Awr, Dpo, FilteredSft, Kto, KtoByStep, Pairing, Positives, Rft, StepDpo, StepRft
from scaling.kinds import loaded
from scaling.planning.chain import (
    adapters,
    base_policy,
    best_checkpoint,
    derived_seed,
    fixed_problems,
    once,
    oracle,
    sampled,
    sft_policy,
    sft_stage,
    slug,
    start_of_adapters,
    synthetic,
    tokenizer,
)
from scaling.planning.set_stages import answering, choosing, judging
from scaling.stage import Stage

# Keys of an algorithm's section that the stage before its training reads; the training does not see them.
_CHOOSING = {"max_positives", "keep"}
_PAIRING = set(Pairing.model_fields)
_PAIRING_AT_PITS = {"pair_mode", "pit_rule", "chosen", "teacher_positives"}
_MEASURED_APART = {"critical_steps", "sets"}  # by stages of their own
_SOFT_LABELS = {"labels", "label_scale", "traces_per_problem"}
# Uses of a run's seed by critical steps, beside those of its rounds.
_TRACES, _PITS, _VALUES = 100, 101, 102


def evaluation(cell: Cell, seed: int) -> Stage:
    """The policy of this cell and seed on the test problems."""
    config: dict[str, object] = {"evaluation": plain(cell.evaluation, _MEASURED_APART), "split": "test"}
    if cell.evaluation.describe and cell.policy.hf is None and cell.policy.base == "pretrained":
        config["web_seed"] = cell.pretrain.seed  # decides the misconceptions
    return _evaluation(cell, seed, trained_policy(cell, seed), config)


def evaluation_on(cell: Cell, seed: int, test_set: TestSet) -> Stage:
    """The same policy on the problems of a further test set."""
    config = {"evaluation": plain(cell.evaluation, _MEASURED_APART), "split": "test"}
    return _evaluation(cell, seed, trained_policy(cell, seed), config, test_set)


def validation(cell: Cell, seed: int) -> Stage:
    """The same policy on the validation problems, greedy only: what selection looks at."""
    config = {"evaluation": _greedy(cell), "split": "validation"}
    return _evaluation(cell, seed, trained_policy(cell, seed), config)


def base_evaluation(cell: Cell, test_set: TestSet | None = None) -> Stage:
    """The base policy on the test problems, greedy: the error at no synthetic data."""
    config = {"evaluation": _greedy(cell), "split": "test"}
    return _evaluation(cell, 0, base_policy(cell), config, test_set)


def trained_policy(cell: Cell, seed: int) -> Stage:
    """The policy that the cell's algorithm trains."""
    return best_checkpoint(cell, loaded(algorithm_of(cell.algorithm).recipe)(cell, seed))


@once
def sampled_policy(cell: Cell, seed: int) -> Stage:
    """The policy that the cell's last round samples from: the SFT policy, or what the round before trained."""
    return _first_policy(cell, seed) if cell.rounds == 1 else trained_policy(_before(cell), seed)


def _first_policy(cell: Cell, seed: int) -> Stage:
    """The SFT policy, which learners but SFT start from."""
    return best_checkpoint(cell, sft_policy(cell, seed))


def rollout_policy(cell: Cell, seed: int) -> Stage:
    """The policy that writes the round's rollouts: the one that it begins with, or in round 1 the base policy."""
    from_base = cell.rollouts.policy == "base" and cell.rounds == 1
    return base_policy(cell) if from_base else sampled_policy(cell, seed)


@once
def rollouts(cell: Cell, seed: int) -> Stage:
    """Completions of D_syn's problems."""
    policy, settings = rollout_policy(cell, seed), plain(cell.rollouts, {"policy"})
    config = {"problems": answering(cell.problems), "rollouts": settings, **randomness(cell, seed)}
    inputs = {"policy": policy, "synthetic": synthetic(cell, seed), **tokenizer(cell), **start_of_adapters(cell)}
    return sampled(cell, Stage("rollouts", config, inputs, slug=round_slug(cell, seed)))


@once
def verification(cell: Cell, seed: int) -> Stage:
    """Rewards and step verdicts of the rollouts."""
    config = {"problems": judging(cell.problems), **verifier(cell)}
    inputs = {"rollouts": rollouts(cell, seed), "synthetic": synthetic(cell, seed), **tokenizer(cell)}
    return Stage("verification", config, inputs, slug=round_slug(cell, seed))


@once
def step_values(cell: Cell, seed: int, traces: str, traces_per_problem: int) -> Stage:
    """Q of every step of some rollouts: of `negatives` only, or of `all`."""
    config = {
        "problems": judging(cell.problems),
        "step_values": plain(cell.step_values, {"negatives_per_problem"}),
        "traces": traces,
        "traces_per_problem": traces_per_problem,
        **randomness(cell, seed),
        **part(cell.rollouts, {"max_new_tokens"}),
        **verifier(cell),
    }
    inputs = {**rollout_inputs(cell, seed), "policy": rollout_policy(cell, seed), **start_of_adapters(cell)}
    named = f"{round_slug(cell, seed)}-{traces}"
    return sampled(cell, Stage("step_values", config, inputs, slug=named))


@once
def positives(cell: Cell, seed: int) -> Stage:
    """The positives that RFT learns from: those of the round, and of the rounds before it where they are pooled."""
    rft = cell.section(Rft)
    config = {"problems": choosing(cell.problems), "positives": part(rft, _CHOOSING), **randomness(cell, seed)}
    inputs = rollout_inputs(cell, seed)
    if rft.keep in ("low_value", "high_value"):
        inputs["step_values"] = step_values(cell, seed, "all", cell.section(StepRft).traces_per_problem)
    if rft.pool_rounds and cell.rounds > 1:
        inputs["before"] = positives(_before(cell), seed)
    return Stage("positives", config, inputs, slug=round_slug(cell, seed))


def filtered_sft_policy(cell: Cell, seed: int) -> Stage:
    """SFT of the base policy on a part of D_syn: the training stage of SFT, fewer rows."""
    settings = cell.section(FilteredSft)
    filtering, inputs = {"keep"}, {"synthetic": synthetic(cell, seed), **tokenizer(cell)}
    if settings.keep == "small_loss":
        filtering, inputs = {"keep", "keep_fraction"}, {**inputs, "judge": _first_policy(cell, seed)}
    config = {"problems": judging(cell.problems), "filter": part(settings, filtering)}
    kept = Stage("filtered", config, {**inputs, **start_of_adapters(cell)}, slug=slug(cell, seed))
    trained = plain(settings, {"keep", "keep_fraction"})
    return sft_stage(cell, seed, trained, kept, f"{slug(cell, seed)}-filtered")


def rft_policy(cell: Cell, seed: int) -> Stage:
    """Rejection-sampling fine-tuning: SFT on the self-generated positives."""
    data = {"positives": positives(cell, seed)}
    return learning_stage("rft", cell, seed, cell.section(Rft), data, exclude={*_CHOOSING, "pool_rounds"})


def pairs(cell: Cell, seed: int, settings: Pairing) -> Stage:
    """Pairs of full completions of the same problem, a right and a wrong one."""
    config = {"problems": choosing(cell.problems), "pairs": part(settings, _PAIRING), **randomness(cell, seed)}
    return Stage("pairs", config, rollout_inputs(cell, seed), slug=round_slug(cell, seed))


def dpo_policy(cell: Cell, seed: int) -> Stage:
    """DPO on full completions, random or edit-distance pairs."""
    dpo = cell.section(Dpo)
    return preference_stage("dpo", cell, seed, plain(dpo, _PAIRING), "reference", pairs(cell, seed, dpo))


def step_dpo_policy(cell: Cell, seed: int) -> Stage:
    """DPO on pairs made at the first pit, or of any steps with soft labels: DPO's training stage, other pairs."""
    step_dpo = cell.section(StepDpo)
    training = plain(step_dpo, _PAIRING_AT_PITS | _SOFT_LABELS)
    if step_dpo.labels == "advantage":
        own = {"labels": {"scale": step_dpo.label_scale}, **randomness(cell, seed)}
        any_two = _of_valued_steps("advantage_pairs", cell, seed, step_dpo.traces_per_problem, own)
        return preference_stage("dpo", cell, seed, training, "reference", any_two)
    config = {"problems": judging(cell.problems), "pairs": part(step_dpo, _PAIRING_AT_PITS), **randomness(cell, seed)}
    values = step_values(cell, seed, "negatives", cell.step_values.negatives_per_problem)
    inputs = {**rollout_inputs(cell, seed), "step_values": values}
    at_pits = Stage("step_pairs", config, inputs, slug=f"{round_slug(cell, seed)}-{step_dpo.pair_mode}")
    return preference_stage("dpo", cell, seed, training, "reference", at_pits)


def step_rft_policy(cell: Cell, seed: int) -> Stage:
    """SFT on the steps with a positive advantage, of right and wrong traces alike."""
    step_rft = cell.section(StepRft)
    own = {"good_steps": part(step_rft, {"min_advantage"})}
    steps = _of_valued_steps("good_steps", cell, seed, step_rft.traces_per_problem, own)
    exclude = {"min_advantage", "traces_per_problem"}
    return learning_stage("step_rft", cell, seed, step_rft, {"good_steps": steps}, exclude)


def awr_policy(cell: Cell, seed: int) -> Stage:
    """NLL on every step of right and wrong traces, weighted by its advantage."""
    awr = cell.section(Awr)
    own = {"weighted_steps": part(awr, {"beta", "max_weight"})}
    steps = _of_valued_steps("weighted_steps", cell, seed, awr.traces_per_problem, own)
    exclude = {"beta", "max_weight", "traces_per_problem"}
    return learning_stage("awr", cell, seed, awr, {"weighted_steps": steps}, exclude)


def kto_policy(cell: Cell, seed: int) -> Stage:
    """KTO on right and wrong completions, which need no partner."""
    kto = cell.section(Kto)
    unseen = {"completions_per_problem", *Positives.model_fields}
    config = {"problems": choosing(cell.problems), "labelled": part(kto, unseen), **randomness(cell, seed)}
    labelled = Stage("labelled", config, rollout_inputs(cell, seed), slug=round_slug(cell, seed))
    return _unpaired(cell, seed, plain(kto, unseen), labelled)


def kto_by_step_policy(cell: Cell, seed: int) -> Stage:
    """KTO on single steps, labelled by the sign of their advantage: the same training stage, other rows."""
    kto = cell.section(KtoByStep)
    labelled = _of_valued_steps("labelled_steps", cell, seed, kto.traces_per_problem, {})
    return _unpaired(cell, seed, plain(kto, {"traces_per_problem"}), labelled)


def group_pg_policy(cell: Cell, seed: int) -> Stage:
    """Policy gradient on groups of completions that the policy in training samples itself."""
    return _on_policy("group_pg", answering(cell.problems), cell, seed, cell.section(GroupPg))


def step_pg_policy(cell: Cell, seed: int) -> Stage:
    """The same on the advantages of steps, from continuations by the policy in training."""
    return _on_policy("step_pg", judging(cell.problems), cell, seed, cell.section(StepPg))


def distill_policy(cell: Cell, seed: int) -> Stage:
    """Each token of the policy's own completions against the oracle's distribution."""
    settings = cell.section(Distill)
    teacher = {"oracle": oracle(cell, settings)}
    return _on_policy(
        "distill", answering(cell.problems), cell, seed, settings, {"teacher_size", "teacher_updates"}, teacher
    )


def _on_policy(
    kind: str,
    problems: Mapping[str, object],
    cell: Cell,
    seed: int,
    settings: OnPolicy,
    exclude: set[str] | None = None,
    more: Mapping[str, Stage] = MappingProxyType({}),
) -> Stage:
    """Training on what the policy samples in the same stage. exclude: keys of the section that other stages read."""
    own = {"problems": problems, kind: plain(settings, exclude), **randomness(cell, seed)}
    inputs = {"reference": sampled_policy(cell, seed), "synthetic": synthetic(cell, seed), **tokenizer(cell), **more}
    config = {**own, **verifier(cell), **adapters(cell)}
    return Stage(kind, config, {**inputs, **start_of_adapters(cell)}, slug=round_slug(cell, seed))


def _unpaired(cell: Cell, seed: int, settings: Mapping[str, object], labelled: Stage) -> Stage:
    config = {"kto": settings, **randomness(cell, seed), **adapters(cell)}
    inputs = {"reference": sampled_policy(cell, seed), "labelled": labelled, **start_of_adapters(cell)}
    return Stage("kto", config, inputs, slug=f"{round_slug(cell, seed)}-{labelled.kind}")


def _of_valued_steps(kind: str, cell: Cell, seed: int, traces_per_problem: int, own: Mapping[str, object]) -> Stage:
    """What some rollouts, right and wrong ones alike, teach by Q of their steps. own: the kind's part of the config."""
    inputs = {**rollout_inputs(cell, seed), "step_values": step_values(cell, seed, "all", traces_per_problem)}
    return Stage(kind, {"problems": judging(cell.problems), **own}, inputs, slug=round_slug(cell, seed))


def critical_steps(cell: Cell, seed: int) -> Stage | None:
    """Q at every step of the SFT policy's wrong traces, and the chance of their first pits, by the policy of this cell.

    None where `evaluation.critical_steps` is not set. The traces and their first pits come from the SFT policy of the
    same size and seed, so every algorithm continues the same prefixes.
    """
    asked = cell.evaluation.critical_steps
    if asked is None:
        return None
    sft, trained = _first_policy(cell, seed), trained_policy(cell, seed)
    problems, shared = {"problems": judging(cell.problems)}, {**tokenizer(cell), **start_of_adapters(cell)}

    config = {
        **problems,
        "rollouts": plain(cell.rollouts, {"policy"}),
        "critical_steps": part(asked, {"problems", "traces"}),
        "seed": derived_seed(seed, _TRACES),
    }
    inputs = {"policy": sft, "problems": fixed_problems(cell), **shared}
    traces = sampled(cell, Stage("critical_traces", config, inputs, slug=slug(cell, seed)))

    def values(policy: Stage, use: int) -> Stage:
        settings = {"rollouts_per_prefix": asked.rollouts_per_prefix, "temperature": cell.step_values.temperature}
        config = {
            **problems,
            "step_values": settings,
            "traces": "negatives",
            "traces_per_problem": asked.traces,
            "seed": derived_seed(seed, use),
            **part(cell.rollouts, {"max_new_tokens"}),
        }
        inputs = {"synthetic": traces, "rollouts": traces, "verification": traces, "policy": policy, **shared}
        named = f"{slug(cell, seed)}-critical-{policy.kind}"
        return sampled(cell, Stage("step_values", config, inputs, slug=named))

    inputs = {"policy": trained, "traces": traces, "pits": values(sft, _PITS), "values": values(trained, _VALUES)}
    return Stage("critical_steps", problems, {**inputs, **shared}, slug=f"{trained.kind}-{trained.slug}")


def _evaluation(
    cell: Cell, seed: int, policy: Stage, config: Mapping[str, object], test_set: TestSet | None = None
) -> Stage:
    full, measured = {"problems": answering(cell.problems), **config, "seed": seed}, cell
    if test_set is not None:  # the policy keeps its vocabulary
        measured = cell.on(test_set)
        full |= {"problems": answering(measured.problems), "trained_on": answering(cell.problems)}
    inputs = {"policy": policy, "problems": fixed_problems(measured), **tokenizer(cell)}
    if policy.kind != "pretrain":
        inputs |= start_of_adapters(cell)
    named = f"{policy.kind}-{policy.slug}-{config['split'] if test_set is None else test_set.name}"
    return sampled(cell, Stage("evaluation", full, inputs, slug=named))


def _greedy(cell: Cell) -> dict[str, object]:
    return {"samples_per_problem": 0, "pass_at": [], **part(cell.evaluation, {"max_new_tokens"})}


def learning_stage(
    kind: str, cell: Cell, seed: int, settings: Rft | StepRft | Awr, data: Mapping[str, Stage], exclude: set[str]
) -> Stage:
    """NLL training from the base policy or the one that was sampled, with D_syn mixed in where the settings say so."""
    config = {
        "problems": answering(cell.problems),
        kind: plain(settings, exclude),
        **randomness(cell, seed),
        **adapters(cell),
    }
    start = base_policy(cell) if settings.start == "base" else sampled_policy(cell, seed)
    inputs = {"start": start, "synthetic": synthetic(cell, seed), **data, **tokenizer(cell), **start_of_adapters(cell)}
    return Stage(kind, config, inputs, slug=round_slug(cell, seed))


def preference_stage(
    kind: str, cell: Cell, seed: int, settings: Mapping[str, object], start: str, pairs: Stage
) -> Stage:
    """Training on pairs from the policy that was sampled. start: the name under which the stage reads that policy."""
    config = {kind: settings, **randomness(cell, seed), **adapters(cell)}
    inputs = {start: sampled_policy(cell, seed), "pairs": pairs, **start_of_adapters(cell)}
    return Stage(kind, config, inputs, slug=f"{round_slug(cell, seed)}-{pairs.kind}")


def rollout_inputs(cell: Cell, seed: int) -> dict[str, Stage]:
    return {
        "synthetic": synthetic(cell, seed),
        "rollouts": rollouts(cell, seed),
        "verification": verification(cell, seed),
        **tokenizer(cell),
    }


def verifier(cell: Cell) -> dict[str, object]:
    """The setting of a stage that gives rewards. No key where they are exact: digests from before it stay."""
    return {} if cell.verifier.is_exact else {"verifier": plain(cell.verifier)}


def _before(cell: Cell) -> Cell:
    """The cell without its last round."""
    return cell.model_copy(update={"rounds": cell.rounds - 1})


def randomness(cell: Cell, seed: int) -> dict[str, int]:
    """The seed of one round's stages: the run's own in round 1, later one that no other round of any run has."""
    later = {"round": cell.rounds} if cell.rounds > 1 else {}
    return {"seed": derived_seed(seed, cell.rounds - 1), **later}


def round_slug(cell: Cell, seed: int) -> str:
    return slug(cell, seed) + (f"-r{cell.rounds}" if cell.rounds > 1 else "")
