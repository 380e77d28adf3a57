"""Estimated costs: analytic, complete, growing with what they should grow with, and corrected by what records show."""

import numpy as np
import pytest

from scaling.config.algorithms import algorithm_names
from scaling.config.resources import Resources
from scaling.config.sampling import CriticalSteps, Sampler
from scaling.config.sweep import Cell
from scaling.kinds import BUILT_IN
from scaling.model.flops import forward_flops, sampling_flops, training_flops
from scaling.model.sizes import model_config
from scaling.planning import recipes
from scaling.planning.recipes import critical_steps
from scaling.pricing.costs import OVERHEAD_SECONDS, Cost, cost, observed_rates, seconds_of
from scaling.pricing.work import ADAPTIVE_FRACTION, reached
from scaling.stage import in_order

NO_POLICY = {"problems", "teacher", "verification", "positives", "pairs", "step_pairs", "good_steps"}
NO_POLICY |= {"filtered", "advantage_pairs", "weighted_steps", "labelled", "labelled_steps"}
SOFT = {"labels": "advantage", "pair_mode": "shared_prefix"}
# modular_sum with modulus 7 and 3 operands: prompts `a b c ?`, completions `a b = c r ;` `a b = c ;` `# c`; the model
# has the 11 words ? = ; # 0..6 and three specials, and reads one special more on either side.
CELL = Cell.of(
    **{
        "data_size": 10,
        "problems": {"family": "modular_sum", "modulus": 7, "operands": 3, "num_validation": 5, "num_test": 20},
        "policy": {"size": "xxs"},
    }
)
ASKED = CELL.model_copy(
    update={"evaluation": CELL.evaluation.model_copy(update={"critical_steps": CriticalSteps(problems=5)})}
)
SHAPE = model_config("xxs", 14)
PROMPT, COMPLETION = 4 + 1, 6 + 5 + 2 + 1


def stages(cell: Cell, algorithm: str):
    cell = cell.model_copy(update={"algorithm": algorithm})
    return {stage.kind: stage for stage in in_order([recipes.evaluation(cell, 0)])}


def changed(section: str, **settings) -> Cell:
    return CELL.model_copy(update={section: getattr(CELL, section).model_copy(update=settings)})


def test_every_kind_of_stage_has_a_cost_and_only_those_with_a_policy_have_flops():
    kinds = {}
    for algorithm in algorithm_names():
        kinds |= stages(CELL, algorithm)
    kinds |= {stage.kind: stage for stage in in_order([critical_steps(ASKED, 0)])}
    kinds |= stages(changed("step_dpo", **SOFT), "step_dpo") | stages(changed("checkpoint", keep="best"), "sft")
    assert set(kinds) | {"problem_source", "solvable"} == set(BUILT_IN)  # those two: tests/test_set_stages.py
    for kind, stage in kinds.items():
        assert (cost(stage).flops == 0) == (kind in NO_POLICY), kind
        assert seconds_of(stage, cost(stage), {}, Resources()) >= OVERHEAD_SECONDS


def test_critical_steps_cost_completions_and_continuations_of_their_own_problems_and_not_of_d_syn():
    measured = critical_steps(ASKED, 0)
    samples = 5 * ASKED.rollouts.samples_per_problem
    expected = samples * sampling_flops(SHAPE, [PROMPT], [COMPLETION])
    assert cost(measured.inputs["traces"]).generation_flops == pytest.approx(expected)
    half, prefixes = COMPLETION / 2, 5 * reached(1, ASKED.rollouts.samples_per_problem) * (3 - 1)
    expected = prefixes * 8 * sampling_flops(SHAPE, [PROMPT + half], [half])
    assert cost(measured.inputs["values"]).generation_flops == pytest.approx(expected)
    read = 5 * reached(1, ASKED.rollouts.samples_per_problem)
    assert cost(measured).generation_flops == pytest.approx(read * forward_flops(SHAPE, [PROMPT + COMPLETION]))


def test_critical_steps_read_every_trace_as_long_as_it_may_be_sampled():
    asked = ASKED.evaluation.model_copy(update={"critical_steps": CriticalSteps(problems=5, traces=3)})
    longer = ASKED.rollouts.model_copy(update={"max_new_tokens": 40})
    measured = critical_steps(ASKED.model_copy(update={"evaluation": asked, "rollouts": longer}), 0)
    assert cost(measured).generation_flops == pytest.approx(
        5 * reached(3, ASKED.rollouts.samples_per_problem) * forward_flops(SHAPE, [PROMPT + 40])
    )
    few = longer.model_copy(update={"samples_per_problem": 2})  # no more traces than completions
    measured = critical_steps(ASKED.model_copy(update={"evaluation": asked, "rollouts": few}), 0)
    assert cost(measured).generation_flops == pytest.approx(5 * 1 * forward_flops(SHAPE, [PROMPT + 40]))
    half = 40 / 2
    expected = 5 * 1 * (3 - 1) * 8 * sampling_flops(SHAPE, [PROMPT + half], [half])
    assert cost(measured.inputs["values"]).generation_flops == pytest.approx(expected)


def test_what_a_server_samples_is_the_same_work_but_not_ours():
    sampler = Sampler(endpoint="http://gpu7:8000/v1", export=True)
    asked = ASKED.model_copy(update={"sampler": sampler, "algorithm": "step_dpo"})
    theirs = {stage.kind: cost(stage) for stage in in_order([recipes.evaluation(asked, 0), critical_steps(asked, 0)])}
    here = asked.model_copy(update={"sampler": None})
    ours = {stage.kind: cost(stage) for stage in in_order([recipes.evaluation(here, 0), critical_steps(here, 0)])}
    for kind in ("rollouts", "step_values", "evaluation", "critical_traces"):
        assert theirs[kind] == Cost(server_flops=ours[kind].generation_flops) and theirs[kind].flops == 0, kind
        assert theirs[kind].seconds(1e10) == OVERHEAD_SECONDS
    for kind in set(ours) - {"rollouts", "step_values", "evaluation", "critical_traces"}:
        assert theirs[kind] == ours[kind], kind
    assert theirs["critical_steps"].generation_flops > 0  # log-probabilities are computed here


def test_sft_costs_a_forward_and_a_backward_pass_of_every_row_and_epoch():
    expected = CELL.sft.epochs * CELL.data_size * training_flops(SHAPE, [PROMPT + COMPLETION])
    assert cost(stages(CELL, "sft")["sft"]) == Cost(training_flops=expected)


def test_rollouts_cost_a_completion_for_every_sample():
    expected = CELL.data_size * CELL.rollouts.samples_per_problem * sampling_flops(SHAPE, [PROMPT], [COMPLETION])
    assert cost(stages(CELL, "rft")["rollouts"]).generation_flops == pytest.approx(expected)
    assert cost(stages(CELL, "rft")["rollouts"]).training_flops == 0


def test_rft_trains_on_its_positives_and_on_the_teachers_solutions_where_they_are_mixed_in():
    mixed, alone = (
        cost(stages(changed("rft", include_synthetic=flag), "rft")["rft"]).training_flops for flag in (True, False)
    )
    per_problem = CELL.rft.epochs * CELL.data_size * training_flops(SHAPE, [PROMPT + COMPLETION])
    kept = reached(CELL.rft.max_positives, CELL.rollouts.samples_per_problem)
    assert alone == pytest.approx(kept * per_problem)
    assert mixed == pytest.approx((kept + 1) * per_problem)


def test_dpo_trains_on_both_sides_of_a_pair_and_reads_the_reference_once():
    samples = CELL.rollouts.samples_per_problem
    pairs = CELL.data_size * reached(CELL.dpo.pairs_per_problem, samples)
    lengths = [PROMPT + COMPLETION] * 2  # chosen and rejected
    expected = pairs * (CELL.dpo.epochs * training_flops(SHAPE, lengths) + forward_flops(SHAPE, lengths))
    assert cost(stages(CELL, "dpo")["dpo"]).training_flops == pytest.approx(expected)
    negatives = reached(CELL.step_values.negatives_per_problem, samples)
    ratio = CELL.data_size * negatives / pairs
    assert cost(stages(CELL, "step_dpo")["dpo"]).training_flops == pytest.approx(ratio * expected)


def test_awr_trains_on_every_trace_and_soft_labels_on_a_pair_for_each_of_its_steps():
    traces, rows = CELL.awr.traces_per_problem, [PROMPT + COMPLETION]
    expected = CELL.data_size * traces * CELL.awr.epochs * training_flops(SHAPE, rows)
    assert cost(stages(CELL, "awr")["awr"]).training_flops == pytest.approx(expected)
    pairs = CELL.data_size * traces * 3  # two sums and the answer
    expected = pairs * 2 * (CELL.step_dpo.epochs * training_flops(SHAPE, rows) + forward_flops(SHAPE, rows))
    found = stages(changed("step_dpo", **SOFT), "step_dpo")["dpo"]
    assert cost(found).training_flops == pytest.approx(expected)


@pytest.mark.parametrize(
    ("algorithm", "rows"), [("kto", 2 * reached(2, CELL.rollouts.samples_per_problem)), ("kto_by_step", 4 * 3)]
)
def test_kto_trains_on_its_rows_and_reads_their_mismatched_twins_in_each_epoch(algorithm, rows):
    lengths = [PROMPT + COMPLETION]
    forward = forward_flops(SHAPE, lengths)
    expected = CELL.data_size * rows * (2 * (training_flops(SHAPE, lengths) + forward) + 2 * forward)
    assert cost(stages(CELL, algorithm)["kto"]).training_flops == pytest.approx(expected)


ON_POLICY = {"iterations": 5, "problems_per_update": 3, "samples_per_problem": 4}


@pytest.mark.parametrize(
    ("settings", "updates", "passes", "attempts"),
    [
        ({}, 5, 0, 1),
        ({"updates_per_iteration": 2}, 10, 1, 1),
        ({"kl_weight": 0.1}, 5, 1, 1),
        ({"updates_per_iteration": 2, "kl_weight": 0.1, "dynamic_sampling": 2}, 10, 2, 3),
        ({"kl_weight": 0.1, "loss": "rloo"}, 5, 2, 1),
    ],
    ids=str,
)
def test_group_pg_samples_and_trains_on_its_groups_whatever_the_data_size(settings, updates, passes, attempts):
    rows, lengths = updates * 3 * 4, [PROMPT + COMPLETION]
    found = cost(stages(changed("group_pg", **ON_POLICY, **settings), "group_pg")["group_pg"])
    work = training_flops(SHAPE, lengths) + passes * forward_flops(SHAPE, lengths)
    assert found.training_flops == pytest.approx(rows * work)
    assert found.generation_flops == pytest.approx(attempts * rows * sampling_flops(SHAPE, [PROMPT], [COMPLETION]))


def test_step_pg_continues_every_step_but_the_last_of_its_completions():
    settings = {**ON_POLICY, "samples_per_problem": 6, "rollouts_per_prefix": 7}
    found = cost(stages(changed("step_pg", **settings), "step_pg")["step_pg"])
    rows, half = 5 * 3 * 6, COMPLETION / 2
    assert found.training_flops == pytest.approx(rows * training_flops(SHAPE, [PROMPT + COMPLETION]))
    continued = rows * 2 * 7 * sampling_flops(SHAPE, [PROMPT + half], [half])  # two sums; nothing follows the answer
    assert found.generation_flops == pytest.approx(rows * sampling_flops(SHAPE, [PROMPT], [COMPLETION]) + continued)


def test_distillation_pays_for_its_teachers_pretraining_and_reading():
    own = stages(changed("distill", **ON_POLICY, teacher_updates=7), "distill")
    lengths = [PROMPT + COMPLETION]
    rows = CELL.pretrain.batch_size * 7
    assert cost(own["oracle"]).training_flops == pytest.approx(rows * training_flops(SHAPE, lengths))
    work = training_flops(SHAPE, lengths) + forward_flops(SHAPE, lengths)
    assert cost(own["distill"]).training_flops == pytest.approx(5 * 3 * 4 * work)


def test_step_values_continue_every_prefix_of_every_negative():
    work = cost(stages(CELL, "step_dpo")["step_values"]).generation_flops
    doubled = cost(stages(changed("step_values", rollouts_per_prefix=8), "step_dpo")["step_values"]).generation_flops
    assert doubled == pytest.approx(2 * work)
    negatives = reached(CELL.step_values.negatives_per_problem, CELL.rollouts.samples_per_problem)
    prefixes = CELL.data_size * negatives * 2  # two sums; nothing follows the answer
    half = COMPLETION // 2  # a prefix ends half-way on average: half is read, half is sampled
    per_prefix = CELL.step_values.rollouts_per_prefix * sampling_flops(SHAPE, [PROMPT + half], [half])
    assert work == pytest.approx(prefixes * per_prefix)


def test_adaptive_step_values_cost_less():
    exhaustive, adaptive = (
        cost(stages(cell, "step_dpo")["step_values"]).generation_flops
        for cell in (CELL, changed("step_values", adaptive=True))
    )
    assert 0 < adaptive == ADAPTIVE_FRACTION * exhaustive < exhaustive


def test_completions_cost_their_limit_where_one_is_set():
    limited = CELL.model_copy(
        update={
            "rollouts": CELL.rollouts.model_copy(update={"max_new_tokens": 40}),
            "evaluation": CELL.evaluation.model_copy(update={"max_new_tokens": 6}),
        }
    )
    rows = CELL.data_size * CELL.rollouts.samples_per_problem
    found = stages(limited, "step_dpo")
    assert cost(found["rollouts"]).generation_flops == pytest.approx(rows * sampling_flops(SHAPE, [PROMPT], [40]))
    negatives = reached(CELL.step_values.negatives_per_problem, CELL.rollouts.samples_per_problem)
    prefixes = CELL.data_size * negatives * 2
    per_prefix = CELL.step_values.rollouts_per_prefix * sampling_flops(SHAPE, [PROMPT + 20], [20])
    assert cost(found["step_values"]).generation_flops == pytest.approx(prefixes * per_prefix)
    assert cost(recipes.base_evaluation(limited)).generation_flops == 20 * sampling_flops(SHAPE, [PROMPT], [6])
    pairs = CELL.data_size * negatives
    lengths = [PROMPT + 40] * 2
    expected = pairs * (CELL.step_dpo.epochs * training_flops(SHAPE, lengths) + forward_flops(SHAPE, lengths))
    assert cost(found["dpo"]).training_flops == pytest.approx(expected)
    assert cost(found["sft"]) == cost(stages(CELL, "sft")["sft"])  # the teacher's solutions are not sampled


def test_what_is_learned_may_be_the_teachers_and_longer_than_the_limit():
    shorter = changed("rollouts", max_new_tokens=3)
    assert cost(stages(shorter, "rft")["rft"]) == cost(stages(CELL, "rft")["rft"])


def test_an_evaluation_costs_its_problems_greedy_and_sampled():
    one = sampling_flops(SHAPE, [PROMPT], [COMPLETION])
    on_test = cost(recipes.evaluation(CELL, 0)).generation_flops
    assert on_test == pytest.approx(20 * (1 + CELL.evaluation.samples_per_problem) * one)
    assert cost(recipes.validation(CELL, 0)).generation_flops == pytest.approx(5 * one)
    assert cost(recipes.base_evaluation(CELL)).generation_flops == pytest.approx(20 * one)


def test_a_random_base_costs_nothing_and_a_pretrained_one_its_updates():
    assert cost(recipes.base_policy(changed("policy", base="random"))).flops == 0
    pretrain = CELL.pretrain
    rows = pretrain.num_updates * pretrain.batch_size
    expected = rows * training_flops(SHAPE, [PROMPT + COMPLETION])
    assert cost(recipes.base_policy(CELL)).training_flops == pytest.approx(expected)


def test_seconds_follow_the_usual_rate_and_the_stores_rate_where_there_is_one():
    stage, two = recipes.sft_policy(CELL, 0), Resources(train={"cpu": 2})
    work = Cost(training_flops=3e12, generation_flops=4e12, shared_flops=1e12, request_seconds=5)
    usual, doubled = (seconds_of(stage, work, {}, resources) for resources in (Resources(), two))
    assert usual - OVERHEAD_SECONDS - 5 == pytest.approx(2 * (doubled - OVERHEAD_SECONDS - 5))
    assert 60 < usual < 600  # six TFLOPs on one core
    # A record's rate counts all FLOPs, since its time did.
    assert seconds_of(stage, work, {"sft": 3.5e12}, two) == pytest.approx(OVERHEAD_SECONDS + 2)


def test_what_is_expected_of_a_problem_is_the_mean_over_uniform_chances():
    for limit, samples in ((4, 8), (8, 16), (2, 64), (16, 16), (32, 8)):
        chances = (np.arange(100_000) + 0.5) / 100_000
        assert reached(limit, samples) == pytest.approx(np.minimum(limit, chances * samples).mean(), rel=1e-6)


def test_a_prompt_that_is_read_for_several_completions_is_counted_once_in_time():
    found = cost(stages(CELL, "rft")["rollouts"])
    again = CELL.data_size * (CELL.rollouts.samples_per_problem - 1)
    assert found.shared_flops == pytest.approx(again * forward_flops(SHAPE, [PROMPT]))
    # As in the law of sampling_flops: what is left is one prefill a prompt, and every new token.
    decoded = sampling_flops(SHAPE, [PROMPT], [COMPLETION]) - forward_flops(SHAPE, [PROMPT])
    rows = CELL.data_size * CELL.rollouts.samples_per_problem
    left = CELL.data_size * forward_flops(SHAPE, [PROMPT]) + rows * decoded
    assert found.flops - found.shared_flops == pytest.approx(left)


def test_observed_rates_weigh_stages_by_their_work_and_leave_out_kinds_without_any():
    small, large = (recipes.sft_policy(changed("sft", epochs=epochs), 0) for epochs in (1, 3))
    teacher = recipes.synthetic(CELL, 0)
    rate = 1e9
    records = [{"wall_seconds": OVERHEAD_SECONDS + cost(stage).flops / rate} for stage in (small, large)]
    rates = observed_rates([small, large, teacher], [*records, {"wall_seconds": 5.0}])
    assert set(rates) == {"sft"}
    assert rates["sft"] == pytest.approx(rate)
    for stage, record in zip((small, large), records, strict=True):
        found = seconds_of(stage, cost(stage), rates, Resources())
        assert found == pytest.approx(record["wall_seconds"])


def test_a_stage_quicker_than_its_overhead_gives_a_positive_rate():
    stage = recipes.sft_policy(CELL, 0)
    assert observed_rates([stage], [{"wall_seconds": 0.0}])["sft"] > 0
