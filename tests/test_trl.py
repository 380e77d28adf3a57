"""Losses and gradients against TRL's own code, on the same batch: everything that both have.

The policy is a table of logits, so that a gradient by its entries is one by all that a model could do. TRL's trainers
are not set up: their `_compute_loss` gets the few fields that it reads. Advantages are given to both.
"""

from collections import defaultdict
from importlib.util import find_spec
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithms.distill import distillation_loss
from algorithms.dpo import loss_of, smoothed
from algorithms.group_pg import policy_loss, token_weights
from algorithms.kto import divergence, unpaired_loss
from algorithms.sft import nll

_ABSENT = [name for name in ("trl", "torch", "transformers") if find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,  # TRL takes up to a minute to import
    pytest.mark.skipif(bool(_ABSENT), reason=f"{', '.join(_ABSENT)} missing; pip install -e '.[hf,oracle]'"),
    pytest.mark.filterwarnings("ignore"),  # TRL's own
]
TOLERANCE = 1e-5
BETA, PROMPT, LENGTH, VOCABULARY = 0.7, 2, 8, 5
LONGEST = LENGTH - PROMPT


def rows(count, seed):
    """Logits, tokens and mask of completions of 2 to 6 tokens after a prompt of 2, [count, T, ...], ended by filler."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, LONGEST + 1, count)
    place = np.arange(LENGTH)
    mask = (place >= PROMPT) & (place < PROMPT + lengths[:, None])
    logits = rng.normal(size=(count, LENGTH, VOCABULARY))
    return logits.astype(np.float32), rng.integers(0, VOCABULARY, (count, LENGTH)), mask.astype(np.float32)


def ours(loss, batch, logits):
    """The mean loss and its gradient by the logits."""

    def mean(params):
        found = loss(lambda params, tokens: params, params, batch)["loss"]
        return found.total / found.count

    return jax.jit(jax.value_and_grad(mean))(jnp.asarray(logits))


def assert_equal(found, expected, logits):
    value, gradient = found
    expected.backward()
    theirs = logits.grad.numpy()
    assert np.abs(theirs).max() > 1e-3
    assert float(value) == pytest.approx(float(expected.detach()), rel=TOLERANCE, abs=TOLERANCE)
    np.testing.assert_allclose(gradient, theirs, atol=TOLERANCE, rtol=0)


def theirs(name):
    """A class of TRL."""
    import trl
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.gkd import GKDTrainer

    return {"CPOTrainer": CPOTrainer, "GKDTrainer": GKDTrainer}.get(name) or getattr(trl, name)


def trainer(name, **fields):
    """A trainer of TRL that has these fields only, as it evaluates."""
    from accelerate import Accelerator

    found = object.__new__(theirs(name))
    common = {"aux_loss_enabled": False, "_total_train_tokens": 0, "_tp_size": 1, "use_vllm": False}
    vars(found).update(common, accelerator=Accelerator(cpu=True), model=SimpleNamespace(training=False), **fields)
    found._metrics = defaultdict(lambda: defaultdict(list))
    return found


def model(temperature=1.0, **tables):
    """A model whose logits are a table, found by the tokens, under TRL's own head. tables: (tokens, logits) each."""
    import torch
    from trl.trainer.utils import add_fused_lm_head

    class Table(torch.nn.Module):
        config = SimpleNamespace(get_text_config=lambda: SimpleNamespace())

        def base_model(self, input_ids, **_):
            logits = next(logits for tokens, logits in tables.values() if torch.equal(tokens, input_ids))
            return SimpleNamespace(last_hidden_state=logits)

        def get_output_embeddings(self):
            return SimpleNamespace(weight=torch.eye(VOCABULARY), bias=None)

    found = Table()
    outputs = ("log_probs", "entropy", "mean_logits", "is_top1")
    add_fused_lm_head(found, temperature=temperature, outputs=outputs)
    return found


def tensors(logits, *arrays):
    """The logits with a gradient, then the rest."""
    import torch

    return torch.tensor(logits, requires_grad=True), *(torch.tensor(array) for array in arrays)


def test_the_negative_log_likelihood_is_that_of_their_head():
    logits, tokens, mask = rows(3, seed=1)
    batch = {"tokens": tokens, "mask": mask, "weight": np.ones(3, np.float32)}
    table, tokens, mask = tensors(logits, tokens, mask)
    labels = tokens.masked_fill(mask == 0, -100)
    expected = model(all=(tokens, table))(input_ids=tokens, labels=labels, fused_lm_head=True).loss
    assert_equal(ours(nll, batch, logits), expected, table)


# Pairs: chosen and rejected alternate in ours; TRL has all chosen ones first.


def pairs(reference=True, smoothing=0.0, count=3):
    logits, tokens, mask = rows(2 * count, seed=3)
    batch = {"tokens": tokens.reshape(count, 2, -1), "mask": mask.reshape(count, 2, -1)}
    drawn = np.random.default_rng(4).normal(-6, 1, (count, 2)).astype(np.float32)
    batch |= {"ref_logps": drawn if reference else 0 * drawn, "weight": np.ones(count, np.float32)}
    batch |= {"beta": np.float32(BETA), "nll_weight": np.float32(0.0)}
    batch |= {"label": smoothed(np.ones(count), smoothing)} if smoothing else {}
    halves = [np.concatenate([array[0::2], array[1::2]]) for array in (tokens, mask)]
    return logits, batch, halves


@pytest.mark.parametrize(
    ("loss", "per_token", "name"),
    [("sigmoid", False, "sigmoid"), ("sigmoid", True, "sigmoid_norm"), ("ipo", True, "ipo")],
)
def test_dpo_and_ipo_are_those_of_dpo_trainer(loss, per_token, name):
    logits, batch, (tokens, mask) = pairs()
    table, tokens, mask, reference = tensors(logits, tokens, mask, batch["ref_logps"])
    halves = _halves(table)
    inputs = {"input_ids": tokens, "attention_mask": 0 * tokens + 1, "completion_mask": mask}
    inputs |= {"ref_chosen_logps": reference[:, 0], "ref_rejected_logps": reference[:, 1]}
    fields = {"loss_types": [name], "loss_weights": [1.0], "beta": BETA, "f_divergence_type": "reverse_kl"}
    fields |= {"label_smoothing": 0.0, "ld_alpha": None, "precompute_ref_logps": True, "use_weighting": False}
    expected = trainer("DPOTrainer", **fields)._compute_loss(model(all=(tokens, halves)), inputs, False)
    assert_equal(ours(loss_of(loss, per_token), batch, logits), expected, table)


@pytest.mark.parametrize(
    ("loss", "smoothing", "margin"), [("sigmoid", 0.1, 0.0), ("simpo", 0.0, 0.5), ("simpo", 0.2, 0.5)]
)
def test_conservative_dpo_and_simpo_are_those_of_cpo_trainer_which_has_no_reference(loss, smoothing, margin):
    logits, batch, (tokens, mask) = pairs(reference=False, smoothing=smoothing)
    batch |= {"simpo_margin": np.float32(margin)} if loss == "simpo" else {}
    table, tokens, mask = tensors(logits, tokens, mask)
    fields = {"loss_type": loss, "simpo_gamma": margin, "beta": BETA, "label_smoothing": smoothing, "alpha": 0.0}
    cpo = trainer("CPOTrainer", **fields)
    labels = tokens.masked_fill(mask == 0, -100)
    logps = cpo.get_batch_logps(_halves(table), labels, average_log_prob=loss == "simpo")
    expected = cpo.cpo_loss(*logps.chunk(2))[0].mean()
    assert_equal(ours(loss_of(loss, loss == "simpo"), batch, logits), expected, table)


def _halves(table):
    """The logits as TRL orders pairs."""
    import torch

    return torch.cat([table[0::2], table[1::2]])


# Labelled rows, each with its mismatched twin.


@pytest.mark.parametrize("shift", [3.0, -3.0])  # of the reference: the divergence above 0, and below it
def test_kto_is_that_of_kto_trainer(shift):
    logits, own, mask = rows(4, seed=5)
    other_logits, others, other_mask = rows(4, seed=6)
    ref = np.random.default_rng(7).normal(-9 - shift, 1, (4, 2)).astype(np.float32)
    batch = {"tokens": np.stack([own, others], 1), "mask": np.stack([mask, other_mask], 1), "ref_logps": ref}
    batch |= {"desirable": np.array([1, 0, 0, 1], np.float32), "weight": np.ones(4, np.float32)}
    weights = {"beta": 0.6, "desirable_weight": 1.0, "undesirable_weight": 1.33}
    batch |= {name: np.float32(value) for name, value in weights.items()}
    point = divergence(lambda params, tokens: params, jnp.asarray(other_logits), batch)["kl"]
    assert np.sign(point.total) == np.sign(shift)
    found = ours(unpaired_loss, {**batch, "kl": point.total / point.count}, logits)

    table, own, mask, others, other_mask, other_logits, ref = tensors(
        logits, own, mask, others, other_mask, other_logits, ref
    )
    inputs = {"input_ids": own, "attention_mask": 0 * own + 1, "completion_mask": mask}
    inputs |= {"KL_input_ids": others, "KL_attention_mask": 0 * others + 1, "KL_completion_mask": other_mask}
    label = mask.new_tensor(batch["desirable"]).bool()
    inputs |= {"label": label, "ref_logps": ref[:, 0], "ref_KL_logps": ref[:, 1]}
    fields = {"loss_type": "kto", "calculate_KL": True, "precompute_ref_logps": True, **weights}
    tables = model(own=(own, table), others=(others, other_logits))
    assert_equal(found, trainer("KTOTrainer", **fields)._compute_loss(tables, inputs, False), table)


# Groups. CISPO divides by the tokens of each group here and by those of the batch there: one group.


@pytest.mark.parametrize("kl_weight", [0.0, 0.3])
@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "dapo", "cispo"])
def test_policy_gradients_are_those_of_grpo_trainer(loss, kl_weight):
    logits, batch = groups(loss, num_groups=1 if loss == "cispo" else 2, kl_weight=kl_weight)
    table, inputs = completions(logits, batch)
    inputs["num_items_in_batch"] = inputs["completion_mask"].sum()
    fields = {"loss_type": loss, "beta": kl_weight, "epsilon_low": 0.2, "epsilon_high": float(batch["epsilon_high"])}
    fields |= {"importance_sampling_level": "token", "top_entropy_quantile": 1.0, "max_completion_length": LONGEST}
    fields |= {"off_policy_mask_threshold": None, "_entropy_bonus_enabled": False}
    fields |= {"args": SimpleNamespace(delta=None, use_bias_correction_kl=False)}
    expected = trainer("GRPOTrainer", **fields)._compute_loss(tabled(inputs, table), inputs)
    assert_equal(ours(lambda *parts: policy_loss(*parts, loss), batch, logits), expected, table)


def test_rloo_is_that_of_rloo_trainer():
    logits, batch = groups("rloo", num_groups=2)
    table, inputs = completions(logits, batch)
    inputs["old_logps"] = inputs["old_per_token_logps"].sum(1)
    rloo = trainer("RLOOTrainer", epsilon_low=0.2, epsilon_high=float(batch["epsilon_high"]))
    expected = rloo._compute_loss(tabled(inputs, table), inputs)
    assert_equal(ours(lambda *parts: policy_loss(*parts, "rloo"), batch, logits), expected, table)


def groups(loss, num_groups, kl_weight=0.0, samples=4, temperature=0.7):
    """Completions whose ratios leave the clipped range on both sides."""
    rng = np.random.default_rng(8)
    logits, tokens, mask = rows(num_groups * samples, seed=9)
    log_probs = jax.nn.log_softmax(logits[:, :-1] / temperature)
    logps = np.take_along_axis(np.asarray(log_probs), tokens[:, 1:, None], -1)[..., 0]
    logps = np.pad(logps, ((0, 0), (1, 0))) * mask
    weights = token_weights(loss, mask.sum(1).reshape(num_groups, samples), LONGEST)
    batch = {"tokens": tokens, "mask": mask, "weight": np.ones(len(tokens), np.float32)}
    batch |= {"advantage": rng.normal(size=len(tokens)).astype(np.float32)}
    batch |= {"token_weight": weights.astype(np.float32).ravel()}
    batch |= {"old_token_logps": ((logps - rng.normal(0, 0.4, logps.shape)) * mask).astype(np.float32)}
    settings = {"epsilon": 0.2, "epsilon_high": 1.1 if loss == "cispo" else 0.3, "temperature": temperature}
    batch |= {name: np.float32(value) for name, value in {**settings, "kl_weight": kl_weight}.items()}
    if kl_weight:
        batch["ref_token_logps"] = ((logps + rng.normal(0, 0.5, logps.shape)) * mask).astype(np.float32)
    return logits, batch


def completions(logits, batch):
    """The batch as TRL has it, prompt and completion apart."""
    table, tokens, mask = tensors(logits, batch["tokens"], batch["mask"])
    inputs = {"prompt_ids": tokens[:, :PROMPT], "prompt_mask": 0 * tokens[:, :PROMPT] + 1}
    inputs |= {"completion_ids": tokens[:, PROMPT:], "completion_mask": mask[:, PROMPT:].int()}
    names = {"advantages": "advantage", "old_per_token_logps": "old_token_logps"}
    names |= {"ref_per_token_logps": "ref_token_logps"} if "ref_token_logps" in batch else {}
    for name, own in names.items():
        inputs[name] = mask.new_tensor(batch[own] if own == "advantage" else batch[own][:, PROMPT:])
    return table, inputs


def tabled(inputs, table):
    """The model whose logits are the table's, at the temperature of `groups`."""
    import torch

    return model(0.7, all=(torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1), table))


def test_distillation_is_the_reverse_divergence_of_gkd_trainer():
    logits, tokens, mask = rows(3, seed=10)
    teacher, _, _ = rows(3, seed=11)
    batch = {"tokens": tokens, "mask": mask, "weight": np.ones(3, np.float32), "teacher_logits": teacher}
    batch["temperature"] = np.float32(0.7)
    table, tokens, mask, teacher = tensors(logits, tokens, mask, teacher)
    labels = tokens.masked_fill(mask == 0, -100)[:, 1:]
    settings = {"beta": 1.0, "temperature": 0.7, "num_items_in_batch": mask.sum()}
    expected = theirs("GKDTrainer").generalized_jsd_loss(table[:, :-1], teacher[:, :-1], labels, **settings)
    assert_equal(ours(distillation_loss, batch, logits), expected, table)
