"""Analytic FLOPs of a policy's work: multiplications and additions of its matrix products, padding not counted.

A product of [n, k] and [k, m] is 2 n k m FLOPs; a backward pass is twice the forward pass (Kaplan et al. 2020,
arXiv 2001.08361, section 2.1, with the attention term kept). tests/test_flops.py checks this against XLA's count.
"""

from collections.abc import Iterable

from scaling.config.policy import Lora
from scaling.model.layout import PARAMS, PLACES, dimensions
from scaling.model.sizes import ModelConfig


def forward_flops(config: ModelConfig, lengths: Iterable[float]) -> float:
    """One forward pass over sequences of these lengths (tokens), causal attention counted in full squares."""
    total = 0.0
    per_token = token_flops(config)
    for length in lengths:
        total += length * per_token + attention_flops(config, length, length)
    return total


def training_flops(config: ModelConfig, lengths: Iterable[float], lora: Lora | None = None) -> float:
    """Forward and backward passes over sequences of these lengths (tokens).

    With lora the frozen matrices have no gradients of their own, and adapters come on top. What remat computes again is
    not counted.
    """
    if lora is None:
        return 3.0 * forward_flops(config, lengths)
    per_token = 2.0 * token_flops(config) + 3.0 * adapter_flops(config, lora)
    return sum(length * per_token + 3.0 * attention_flops(config, length, length) for length in lengths)


def sampling_flops(config: ModelConfig, prompt_lengths: Iterable[float], new_lengths: Iterable[float]) -> float:
    """Prefill of each prompt, then one token at a time through the cache."""
    total = 0.0
    per_token = token_flops(config)
    for prompt, new in zip(prompt_lengths, new_lengths, strict=True):
        total += (prompt + new) * per_token + attention_flops(config, prompt, prompt)
        total += attention_flops(config, 1, new * prompt + new * (new + 1) / 2)
    return total


def token_flops(config: ModelConfig) -> float:
    """The products with params that one token needs, the output projection included."""
    projections = 2 * config.width * config.head_width * 2 * (config.num_heads + config.num_kv_heads)
    ffn = 2 * 3 * config.width * config.ffn_width
    return config.num_layers * (projections + ffn) + 2 * config.width * config.vocab_size


def attention_flops(config: ModelConfig, num_queries: float, num_keys: float) -> float:
    """Queries against keys, and weights against values, over all layers."""
    return config.num_layers * 2 * 2 * num_queries * num_keys * config.num_heads * config.head_width


def adapter_flops(config: ModelConfig, lora: Lora) -> float:
    """The products with adapters that one token needs in a forward pass."""
    sizes = dimensions(config)
    ends = sum(sizes[end] for target in lora.targets for end in PARAMS[".".join((*PLACES[target], "kernel"))])
    return config.num_layers * 2.0 * lora.rank * ends


def adapter_params(config: ModelConfig, lora: Lora) -> float:
    """How many numbers the adapters have; a token meets each of them in one multiplication and one addition."""
    return adapter_flops(config, lora) / 2
