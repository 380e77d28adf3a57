"""A checkpoint as the hub has them: random params of a tiny decoder, the tests' byte-level tokenizer and its template.

Needs transformers.
"""

from dataclasses import replace
from pathlib import Path

import jax
from tiny_policy import CONFIG, random_params
from tiny_tokenizer import TEMPLATE, save_tokenizer

from scaling.model.policy import Policy
from scaling.model.sizes import ModelConfig
from scaling.model.transformer import architecture
from scaling.pretrained.hf import save_checkpoint

SHAPE = replace(CONFIG, vocab_size=264, max_positions=512)  # the tokenizer has 262 words


def random_policy(shape: ModelConfig = SHAPE, seed: int = 0) -> Policy:
    """A policy that has learned nothing."""
    return Policy(random_params(seed, jax.eval_shape(architecture(shape).init, jax.random.key(0))), shape)


def save_random(folder: Path, shape: ModelConfig = SHAPE) -> Path:
    """Write the checkpoint of `random_policy`; the folder is made where there is none."""
    folder.mkdir(exist_ok=True)
    save_checkpoint(random_policy(shape), folder)
    save_tokenizer(folder, TEMPLATE)
    return folder
