"""On-policy distillation: the divergence against NumPy, known answers, the oracle, and the stage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from finite_differences import gradient
from interrupted import BYTES, Killed, killing, looking_every
from stage_config import whole
from tiny_chain import PROBLEMS, SETTINGS, TOKENIZER, Chain

from algorithms import distill, pretrain
from algorithms.distill import distillation_loss
from data.problems import modular_sum
from data.records import Problem, read_jsonl
from scaling.config.errors import ConfigError
from scaling.config.sweep import Cell
from scaling.kinds import kind_of
from scaling.model.flops import forward_flops, training_flops
from scaling.model.policy import load_policy, load_shape
from scaling.planning import recipes
from scaling.stage import in_order

TEMPERATURE = 0.7
SHAPE = (2, 5, 3)  # B, T, V


def table(params, tokens):
    """A policy whose logits are its params, [B, T, V]."""
    return params


def batch_of(teacher_logits, temperature=TEMPERATURE):
    mask = np.zeros(SHAPE[:2], np.float32)
    mask[0, 1:4], mask[1, 2:] = 1.0, 1.0
    return {
        "tokens": np.random.default_rng(1).integers(0, SHAPE[2], SHAPE[:2]).astype(np.int32),
        "mask": mask,
        "weight": np.ones(SHAPE[0], np.float32),
        "teacher_logits": np.asarray(teacher_logits, np.float32),
        "temperature": np.float32(temperature),
    }


def mean_loss(params, batch):
    found = distillation_loss(table, params, batch)["loss"]
    return found.total / found.count


def written_out(logits, teacher_logits, mask):
    """The divergence at the logits before each completion token, averaged."""
    total = 0.0
    for row, place in np.argwhere(mask):
        own, teachers = (np.exp(of[row, place - 1] / TEMPERATURE) for of in (logits, teacher_logits))
        own, teachers = own / own.sum(), teachers / teachers.sum()
        total += (own * np.log(own / teachers)).sum()
    return total / mask.sum()


def test_loss_and_gradient_agree_with_numpy_and_finite_differences_in_float64():
    logits, teacher_logits = np.random.default_rng(0).normal(size=(2, *SHAPE))
    batch = batch_of(teacher_logits)
    value, by_logits = jax.value_and_grad(mean_loss)(jnp.asarray(logits, jnp.float32), batch)
    assert float(value) == pytest.approx(written_out(logits, teacher_logits, batch["mask"]), rel=1e-5)
    found = gradient(lambda moved: written_out(moved, teacher_logits, batch["mask"]), logits)
    assert np.abs(found).max() > 0.01
    np.testing.assert_allclose(by_logits, found, atol=1e-5)


def test_divergences_of_known_policies():
    alike = batch_of(np.random.default_rng(0).normal(size=SHAPE))
    value, by_logits = jax.value_and_grad(mean_loss)(jnp.asarray(alike["teacher_logits"]), alike)
    assert float(value) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(by_logits, 0, atol=1e-6)
    # A uniform policy against 1/2, 1/4, 1/4: log 1/3 on average against (log 1/2 + 2 log 1/4) / 3.
    known = batch_of(np.broadcast_to(np.log([0.5, 0.25, 0.25]), SHAPE), temperature=1.0)
    expected = np.log(1 / 3) - (np.log(1 / 2) + 2 * np.log(1 / 4)) / 3
    assert float(mean_loss(jnp.zeros(SHAPE), known)) == pytest.approx(expected, rel=1e-5)
    reverse = sum(p * np.log(p / q) for p, q in ((0.5, 1 / 3), (0.25, 1 / 3), (0.25, 1 / 3)))
    assert float(mean_loss(jnp.asarray(known["teacher_logits"]), batch_of(np.zeros(SHAPE), 1.0))) == pytest.approx(
        reverse, rel=1e-5
    )


# The oracle.


def stage_of(algorithm="distill", **sections):
    return recipes.trained_policy(Cell.of(**{"algorithm": algorithm, **sections}), 0)


def test_the_oracle_is_the_same_for_all_teachers_and_its_cost_is_the_runs_own():
    exact, flawed, random = (
        stage_of(**sections)
        for sections in (
            {},
            {"problems": {"family": "modular_sum", "flaw_rate": 0.5, "web_confidence": (2.0, 1.0)}},
            {"policy": {"base": "random"}},
        )
    )
    assert exact.inputs["oracle"] == flawed.inputs["oracle"] == random.inputs["oracle"]
    assert exact.inputs["synthetic"] != flawed.inputs["synthetic"]
    larger = stage_of(distill={"teacher_size": "s", "teacher_updates": 10}).inputs["oracle"]
    assert larger.config["policy"]["size"] == "s" and larger.config["pretrain"]["num_updates"] == 10
    assert not kind_of("oracle").makes_base and exact.inputs["oracle"] in in_order([exact])


def test_a_checkpoint_has_no_oracle():
    with pytest.raises(ConfigError, match="algorithm is 'distill', whose teacher is pretrained here"):
        stage_of(policy={"hf": "HuggingFaceTB/SmolLM2-135M"}, problems={"family": "gsm8k"})


def oracle(out, num_updates, size="xxs"):
    out.mkdir()
    config = {"problems": PROBLEMS, "policy": {"size": size}, "pretrain": {"num_updates": num_updates, "batch_size": 8}}
    return pretrain.run_oracle(whole(config), {}, out)


def test_an_oracle_learns_from_right_solutions_of_the_studys_problems(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        pretrain, "run_updates", lambda params, shape, updates, *rest: seen.append(updates) or (params, {})
    )
    numbers = oracle(tmp_path / "oracle", 3)
    batches = [batch for index in range(3) for batch in seen[0].batch_at(index)]
    rows = [row[row > 0].tolist() for batch in batches for row in batch["tokens"][batch["weight"] > 0]]
    assert len(rows) == 24 and len({*map(tuple, rows)}) > 20
    for row in rows:
        prompt, completion = TOKENIZER.decode(row[1:5]), TOKENIZER.decode(row[5:])
        answer = str(sum(map(int, prompt.split()[:-1])) % 11)
        assert modular_sum.check(SETTINGS, Problem(prompt, answer), completion).reward == 1
    shape = load_shape(tmp_path / "oracle")
    assert numbers["training_flops"] == pytest.approx(3 * training_flops(shape, [len(rows[0])] * 8), rel=0.1)


# The stage.


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    chain = Chain(tmp_path_factory.mktemp("chain"), "sft")
    oracle(chain.root / "oracle", 60)
    return chain


SECTION = {"iterations": 3, "problems_per_update": 2, "samples_per_problem": 4, "learning_rate": 3e-3}


def train(chain, out, inputs=None, **changes):
    out.mkdir(parents=True, exist_ok=True)
    config = whole({"problems": PROBLEMS, "distill": {**SECTION, **changes}, "seed": 0})
    found = chain.inputs(reference="sft", synthetic="synthetic", oracle="oracle") | (inputs or {})
    return distill.run(config, found, out)


def test_the_divergence_falls_and_the_teachers_reading_is_counted(chain, tmp_path):
    numbers = train(chain, tmp_path, iterations=15)
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    assert lines[-1]["train/loss"] < 0.75 * lines[0]["train/loss"]
    shape = load_shape(chain["sft"])
    assert numbers["training_flops"] == pytest.approx(
        training_flops(shape, [numbers["num_tokens"] / 120] * 120)
        + forward_flops(shape, [numbers["num_tokens"] / 120] * 120),
        rel=0.01,
    )
    assert numbers["num_rollouts"] == 120 and "groups_without_gradient_fraction" not in numbers


def test_a_policy_has_nothing_to_learn_from_itself(chain, tmp_path):
    numbers = train(chain, tmp_path, {"oracle": chain["sft"]}, iterations=1)
    assert numbers["train/loss"] == pytest.approx(0, abs=1e-6)


def test_a_teacher_with_another_vocabulary_is_refused(chain, tmp_path):
    (tmp_path / "other").mkdir()
    config = {
        "problems": {**PROBLEMS, "modulus": 13},
        "policy": {"size": "xxs", "base": "random"},
        "pretrain": {"seed": 0},
    }
    pretrain.run(whole(config), {}, tmp_path / "other")
    own = load_policy(chain["sft"]).config.vocab_size
    with pytest.raises(ValueError, match=f"the teacher has {own + 2} tokens and the policy {own}"):
        train(chain, tmp_path, {"oracle": tmp_path / "other"})


@pytest.mark.parametrize("at", [[4], [7, 2]])
def test_a_killed_stage_ends_with_the_bytes_of_the_unbroken_one(at, chain, tmp_path, monkeypatch):
    settings = {"updates_per_iteration": 2, "problems_per_update": 1}
    numbers = train(chain, tmp_path / "unbroken", **settings)
    looking_every(monkeypatch, 25)
    for moment in at:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            killing(patch, distill, moment)
            train(chain, tmp_path / "killed", **settings)
    assert train(chain, tmp_path / "killed", **settings) == numbers
    for name in BYTES:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes(), name
