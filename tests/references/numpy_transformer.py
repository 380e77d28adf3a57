"""The decoder once more, in plain numpy and float64, one sequence and one head at a time, with no cache.

In: a policy's params, its config, token ids. Out: logits. Written from the papers and shares no code with the
project: RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467), rotary positions (Su et al. 2021, arXiv 2104.09864, in
Llama's layout: the pairs are the first and second halves), SwiGLU (Shazeer 2020, arXiv 2002.05202), grouped-query
attention (Ainslie et al. 2023, arXiv 2305.13245), output projection tied to the embedding. What checkpoints add: a head
of its own, biases, RMSNorm of queries and keys (Qwen3), a sliding window (Mistral), slower rotary frequencies.
"""

import numpy as np


def forward(params, config, tokens: list[int]) -> np.ndarray:
    """Logits float64 [T, V] of one sequence of T token ids."""
    embedding = _array(params["embedding"]["embedding"])
    hidden = embedding[list(tokens)]
    for index in range(config.num_layers):
        layer = params["layers"][index]
        hidden = hidden + _attention(layer["attention"], config, _rms_norm(layer["attention_norm"], config, hidden))
        hidden = hidden + _swiglu(layer["ffn"], _rms_norm(layer["ffn_norm"], config, hidden))
    head = _array(params["head"]["kernel"]) if config.untied_head else embedding.T
    return _rms_norm(params["final_norm"], config, hidden) @ head


def _array(leaf) -> np.ndarray:
    return np.asarray(leaf, np.float64)


def _rms_norm(params, config, hidden):
    return hidden / np.sqrt((hidden**2).mean(axis=-1, keepdims=True) + config.norm_epsilon) * _array(params["scale"])


def _swiglu(params, hidden):
    gate, up, down = (_array(params[name]["kernel"]) for name in ("gate", "up", "down"))
    gated = hidden @ gate
    return (gated / (1 + np.exp(-gated)) * (hidden @ up)) @ down


def _attention(params, config, hidden):
    width, window = config.head_width, config.sliding_window or len(hidden)
    mixed = []
    for head in range(config.num_heads):
        kv_head = head // (config.num_heads // config.num_kv_heads)  # neighbouring heads share keys and values
        queries, keys = _head(params["query"], hidden, head, width), _head(params["key"], hidden, kv_head, width)
        if config.qk_norm:
            queries = _rms_norm(params["query_norm"], config, queries)
            keys = _rms_norm(params["key_norm"], config, keys)
        queries, keys = _rotary(queries, config), _rotary(keys, config)
        values = _head(params["value"], hidden, kv_head, width)
        rows = []
        for position in range(len(hidden)):
            seen = slice(max(0, position + 1 - window), position + 1)
            logits = keys[seen] @ queries[position] / np.sqrt(width)
            weights = np.exp(logits - logits.max())
            rows.append(weights / weights.sum() @ values[seen])
        mixed.append(np.array(rows))
    output = params["output"]
    return np.concatenate(mixed, axis=-1) @ _array(output["kernel"]) + _array(output.get("bias", 0.0))


def _head(params, hidden, head, width):
    columns = slice(head * width, (head + 1) * width)
    bias = _array(params["bias"])[columns] if "bias" in params else 0.0
    return hidden @ _array(params["kernel"])[:, columns] + bias


def _rotary(heads, config):
    """Pair i of position p is turned by the angle p theta^(-2i/E), or by a scaled one, as a complex number."""
    half = heads.shape[1] // 2
    frequencies = [_scaled(config.rope_theta ** (-2 * pair / (2 * half)), config.rope_scaling) for pair in range(half)]
    angles = np.arange(len(heads))[:, None] * np.array(frequencies)
    turned = (heads[:, :half] + 1j * heads[:, half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def _scaled(frequency, scaling):
    """Llama 3.1's rule in words of wavelengths: long ones stretched, short ones kept, those between mixed."""
    if scaling is None:
        return frequency
    if scaling.kind == "linear":
        return frequency / scaling.factor
    wavelength = 2 * np.pi / frequency
    longest_kept = scaling.original_max_positions / scaling.high_frequency_factor
    shortest_stretched = scaling.original_max_positions / scaling.low_frequency_factor
    if wavelength < longest_kept:
        return frequency
    if wavelength > shortest_stretched:
        return frequency / scaling.factor
    share = scaling.original_max_positions / wavelength - scaling.low_frequency_factor
    share /= scaling.high_frequency_factor - scaling.low_frequency_factor
    return (1 - share) * frequency / scaling.factor + share * frequency
