"""The decoder once more, in plain numpy and float64, one sequence and one head at a time, with no cache.

In: a policy's params, its config, token ids. Out: logits. Written from the papers and shares no code with the
project: RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467), rotary positions (Su et al. 2021, arXiv 2104.09864, in
Llama's layout: the pairs are the first and second halves), SwiGLU (Shazeer 2020, arXiv 2002.05202), grouped-query
attention (Ainslie et al. 2023, arXiv 2305.13245), output projection tied to the embedding.
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
    return _rms_norm(params["final_norm"], config, hidden) @ embedding.T


def _array(leaf) -> np.ndarray:
    return np.asarray(leaf, np.float64)


def _rms_norm(params, config, hidden):
    return hidden / np.sqrt((hidden**2).mean(axis=-1, keepdims=True) + config.norm_epsilon) * _array(params["scale"])


def _swiglu(params, hidden):
    gate, up, down = (_array(params[name]["kernel"]) for name in ("gate", "up", "down"))
    gated = hidden @ gate
    return (gated / (1 + np.exp(-gated)) * (hidden @ up)) @ down


def _attention(params, config, hidden):
    query, key, value, output = (_array(params[name]["kernel"]) for name in ("query", "key", "value", "output"))
    width = config.head_width
    mixed = []
    for head in range(config.num_heads):
        kv_head = head // (config.num_heads // config.num_kv_heads)  # neighbouring heads share keys and values
        queries = _rotary(hidden @ query[:, head * width : (head + 1) * width], config.rope_theta)
        keys = _rotary(hidden @ key[:, kv_head * width : (kv_head + 1) * width], config.rope_theta)
        values = hidden @ value[:, kv_head * width : (kv_head + 1) * width]
        rows = []
        for position in range(len(hidden)):
            logits = keys[: position + 1] @ queries[position] / np.sqrt(width)
            weights = np.exp(logits - logits.max())
            rows.append(weights / weights.sum() @ values[: position + 1])
        mixed.append(np.array(rows))
    return np.concatenate(mixed, axis=-1) @ output


def _rotary(heads, theta):
    """Pair i of position p is turned by the angle p theta^(-2i/E), as a complex number."""
    half = heads.shape[1] // 2
    angles = np.arange(len(heads))[:, None] * theta ** (-2 * np.arange(half) / (2 * half))
    turned = (heads[:, :half] + 1j * heads[:, half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)
