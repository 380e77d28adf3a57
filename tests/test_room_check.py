"""Room in a checkpoint's context: what a plan refuses for certain, and what sampling refuses before it begins."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_policy import CONFIG, random_params

from scaling.config.errors import ConfigError
from scaling.config.sweep import Cell
from scaling.model import sampling
from scaling.model.sampling import row_keys, sample
from scaling.planning import recipes
from scaling.planning.chain import solvable
from scaling.planning.recipes import critical_steps
from scaling.pricing import lengths
from scaling.pricing.lengths import check_room
from scaling.stage import in_order

FILE = Path("sweeps/mine.yaml")
DEEPSEEK = "deepseek-ai/deepseek-math-7b-base"  # 4,096 positions


def stages(**sections):
    cell = Cell.of(**{"algorithm": "step_dpo", "policy": {"hf": DEEPSEEK}, **sections})
    return in_order([recipes.evaluation(cell, 0)])


@pytest.mark.parametrize("section", ["rollouts", "evaluation"])
def test_a_limit_that_leaves_no_prompt_any_room_is_refused_with_its_key(section):
    gsm8k = {"problems": {"family": "gsm8k"}}
    check_room(stages(**gsm8k, **{section: {"max_new_tokens": 4095}}), FILE)
    words = f"sweeps/mine.yaml: {section}.max_new_tokens allows completions of 4096 tokens.* max_positions = 4096"
    with pytest.raises(ConfigError, match=words):
        check_room(stages(**gsm8k, **{section: {"max_new_tokens": 4096}}), FILE)


def test_the_filters_own_limit_is_named():
    chosen = {"family": "gsm8k", "solvable": {"max_new_tokens": 5000}}
    cell = Cell.of(**{"policy": {"hf": DEEPSEEK}, "problems": chosen})
    with pytest.raises(ConfigError, match=r"problems\.solvable\.max_new_tokens allows completions of 5000 tokens"):
        check_room([solvable(cell)], FILE)


def test_the_default_limit_is_certain_where_tokens_are_counted_and_not_where_words_are(monkeypatch):
    small = replace(CONFIG, max_positions=64)
    monkeypatch.setattr(lengths, "_imported", lambda name, revision: small)
    check_room(stages(problems={"family": "modular_sum"}), FILE)  # how many tokens a word has, the tokenizer knows
    with pytest.raises(ConfigError, match=r"rollouts\.max_new_tokens allows completions of 401 tokens"):
        check_room(stages(problems={"family": "gsm8k"}), FILE)


def test_embedded_policies_have_room_for_everything():
    evaluation = {"critical_steps": {"problems": 8}, "max_new_tokens": 10**6}
    cell = Cell.of(**{"evaluation": evaluation, "rollouts": {"max_new_tokens": 10**6}})
    check_room(in_order([recipes.evaluation(cell, 0), critical_steps(cell, 0)]), FILE)


def test_a_prompt_that_leaves_too_little_room_is_refused_before_anything_is_sampled(monkeypatch):
    monkeypatch.setattr(sampling, "_generate", None)  # would raise TypeError
    config = replace(CONFIG, max_positions=16)
    keys = row_keys(jax.random.key(0), np.arange(3, dtype=np.uint32)[:, None])
    words = r"1 of 3 rows do not fit into the 16 positions.* a prompt of 9 tokens with up to 8 new ones"
    with pytest.raises(ValueError, match=words):
        sample({}, config, [[3], [3] * 9, [4] * 8], keys, [8, 8, 8], temperature=1.0)


def test_what_fits_exactly_is_sampled_and_has_the_tokens_it_would_have_with_more_room():
    params, keys = random_params(0), row_keys(jax.random.key(0), np.arange(4, dtype=np.uint32)[:, None])
    prompts, limits = [[3], [3, 4, 5, 6, 7], [4] * 9, [5] * 5], [12] * 4  # padded: 16 and 16
    wide = sample(params, CONFIG, prompts, keys, limits, temperature=1.0)
    tight = sample(params, replace(CONFIG, max_positions=21), prompts, keys, limits, temperature=1.0)
    np.testing.assert_array_equal(tight.tokens, wide.tokens)
    np.testing.assert_array_equal(tight.lengths, wide.lengths)
