"""Small random Hugging Face models of every supported architecture, made by `transformers` with torch: the oracle."""

import math

import numpy as np
import torch
import transformers

VOCABULARY, LENGTH = 48, 24
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
# name -> the config's class and what differs from SHAPE
ARCHITECTURES = {
    "llama 2": ("LlamaConfig", {"num_key_value_heads": 4, "tie_word_embeddings": False}),
    "llama 3": ("LlamaConfig", {"rope_parameters": LLAMA3, "tie_word_embeddings": False, "rms_norm_eps": 1e-5}),
    "llama 3.2, tied": ("LlamaConfig", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "smollm2": ("LlamaConfig", {"num_attention_heads": 8, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "deepseek": ("LlamaConfig", {"num_key_value_heads": 4, "rope_parameters": LINEAR, "tie_word_embeddings": False}),
    "llama with biases": ("LlamaConfig", {"attention_bias": True}),
    "mistral": ("MistralConfig", {"sliding_window": 7, "head_dim": 12}),
    "mistral without a window": ("MistralConfig", {"sliding_window": None}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen2.5": ("Qwen2Config", {"tie_word_embeddings": False, "rope_parameters": {"rope_theta": 1e6}}),
    "qwen2 with a window": ("Qwen2Config", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 0}),
    "qwen3": ("Qwen3Config", {"head_dim": 16, "tie_word_embeddings": False}),
    "qwen3 with biases": ("Qwen3Config", {"head_dim": 10, "attention_bias": True, "tie_word_embeddings": True}),
}
TOKENS = np.random.default_rng(0).integers(0, VOCABULARY, (3, LENGTH)).astype(np.int32)


def model_of(name: str, **changes: object) -> torch.nn.Module:
    """A model with norms moved away from 1 and biases from 0, so that its logits are of order 1 and show every part."""
    config_class, features = ARCHITECTURES[name]
    config = getattr(transformers, config_class)(**{**SHAPE, **features, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part, weight in model.named_parameters():
            normal = torch.randn(weight.shape, generator=generator)
            if part.endswith("bias"):
                weight.copy_(0.5 * normal)
            elif weight.ndim == 1:
                weight.copy_(torch.exp(0.3 * normal))
            else:
                weight.copy_(normal / math.sqrt(weight.shape[1]))
    return model


def logits_of(model: torch.nn.Module, tokens: np.ndarray = TOKENS) -> np.ndarray:
    """float32 [B, T, V]"""
    with torch.no_grad():
        return model(torch.from_numpy(tokens.astype(np.int64))).logits.float().numpy()
