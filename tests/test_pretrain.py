"""The base policy: random or trained on web text, the same for every seed of a sweep."""

import jax
import numpy as np
import pytest
from stage_config import whole
from tiny_chain import PROBLEMS, TOKENIZER

from algorithms import pretrain
from data.records import read_jsonl
from scaling.model.policy import load_policy
from scaling.model.sizes import model_config

SETTINGS = {"num_updates": 20, "batch_size": 8, "learning_rate": 1e-2}


def train(out, base="pretrained", **settings):
    out.mkdir()
    config = whole(
        {"problems": PROBLEMS, "policy": {"size": "xxs", "base": base}, "pretrain": {**SETTINGS, **settings}}
    )
    return pretrain.run(config, {}, out)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("pretrain") / "out"
    return out, train(out)


def test_a_random_base_is_the_initial_policy_of_the_seed_and_costs_nothing(tmp_path):
    assert train(tmp_path / "a", "random") == {"training_flops": 0.0, "num_updates": 0.0}
    policy = load_policy(tmp_path / "a")
    assert policy.config == model_config("xxs", TOKENIZER.vocab_size)
    assert sum(leaf.size for leaf in jax.tree.leaves(policy.params)) == policy.config.num_params
    train(tmp_path / "b", "random", num_updates=3)
    train(tmp_path / "c", "random", seed=1)
    a, b, c = ((tmp_path / name / "policy.safetensors").read_bytes() for name in "abc")
    assert a == b != c


def test_training_starts_at_chance_and_learns_the_procedure(trained):
    out, numbers = trained
    metrics = read_jsonl(out / "metrics.jsonl")
    # A fresh policy is near uniform: ln V plus half the variance of its logits, which is of order one.
    assert np.log(TOKENIZER.vocab_size) - 0.5 < metrics[0]["train/loss"] < np.log(TOKENIZER.vocab_size) + 1.0
    assert numbers["train/loss"] == metrics[-1]["train/loss"] < metrics[0]["train/loss"] - 0.7
    assert numbers["num_updates"] == 20.0 and metrics[-1]["update"] == 20


def test_the_flops_are_those_of_the_text_that_was_read(trained):
    _, numbers = trained
    config = model_config("xxs", TOKENIZER.vocab_size)
    # 5 words of the prompt and 14 of the completion in every text; 6 FLOPs a parameter and token bound the products.
    products = 6 * config.num_params * 19 * 8 * 20
    assert 0.9 * products < numbers["training_flops"] < 1.5 * products


def test_the_same_seed_reads_the_same_text_and_another_seed_other_text(trained, tmp_path):
    train(tmp_path / "again")
    train(tmp_path / "other", seed=1)
    folders = (trained[0], tmp_path / "again", tmp_path / "other")
    ours, again, other = ((folder / "metrics.jsonl").read_text() for folder in folders)
    assert ours == again != other


def test_the_teachers_settings_are_not_in_the_web_text(trained, tmp_path):
    (tmp_path / "out").mkdir()
    problems = {**PROBLEMS, "flaw_rate": 1.0, "zipf_exponent": 2.0, "num_test": 7}
    config = whole({"problems": problems, "policy": {"size": "xxs"}, "pretrain": SETTINGS})
    pretrain.run(config, {}, tmp_path / "out")
    assert (tmp_path / "out" / "metrics.jsonl").read_text() == (trained[0] / "metrics.jsonl").read_text()


def test_a_size_that_is_none_is_an_error(tmp_path):
    config = {
        "problems": PROBLEMS,
        "policy": {"size": "huge", "base": "pretrained"},
        "pretrain": {**SETTINGS, "seed": 0},
    }
    with pytest.raises(ValueError, match="'xxs', 'xs', 's', 'm' or 'l'"):
        pretrain.run(config, {}, tmp_path)
