"""What both sides of the benchmark do: the same prompts, the same weights, the same limits.

In: a size of the ladder. Out: prompts as token ids, and a checkpoint that our loader and transformers read. Size xs has
the shipped base policy's weights, so completions end where a policy ends them; the other sizes have random
weights, and mostly run to the limit.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "results" / "shipped" / "pretrain"
VOCABULARY, LIMIT = 66, 24  # words of modular_sum at modulus 59; most tokens of a completion
BOS, EOS, PAD, ASK = 1, 2, 0, 3
NUM_PROBLEMS, NUM_QUICK = 512, 32
SIZES = ("xs", "s", "m")


def num_rows(work: str, size: str, counts: str, total: int) -> int:
    """How many of a work's rows are done: a quarter where 4.7M parameters would take half an hour."""
    if counts == "quick":
        return NUM_QUICK
    return total // 4 if size == "m" and work in ("sampling_16", "step_values") else total


def prompts(seed: int = 0, count: int = NUM_PROBLEMS, ragged: bool = False) -> list[list[int]]:
    """BOS, operands, question mark. Ragged: 3 to 8 operands instead of 4."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 9, count) if ragged else np.full(count, 4)
    return [[BOS, *rng.choice(np.arange(7, VOCABULARY), length, replace=False).tolist(), ASK] for length in lengths]


def prefixes(seed: int = 0, count: int = NUM_PROBLEMS) -> tuple[list[list[int]], list[int]]:
    """Three prefixes of a written solution for each prompt, and how many tokens are left for each."""
    rng = np.random.default_rng(seed)
    found, room = [], []
    for prompt in prompts(seed, count):
        written = rng.integers(7, VOCABULARY, 18).tolist()
        for end in (7, 13, 18):  # where the three steps of a solution over four operands end
            found.append(prompt + written[:end])
            room.append(LIMIT - end)
    return found, room


def checkpoint(size: str, folder: Path) -> Path:
    """A folder with policy.json and policy.safetensors for us, config.json and model.safetensors for transformers."""
    target = folder / size
    if (target / "config.json").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    if size == "xs":
        (source,) = BASE.glob("modular_sum-xs-*")
        shape, tensors = json.loads((source / "policy.json").read_text()), load_file(source / "policy.safetensors")
    else:
        shape, tensors = _random(size)
    (target / "policy.json").write_text(json.dumps(shape))
    save_file(tensors, target / "policy.safetensors")
    save_file(_for_transformers(tensors), target / "model.safetensors", metadata={"format": "pt"})
    (target / "config.json").write_text(json.dumps(_config(shape)))
    return target


def _random(size: str) -> tuple[dict, dict[str, np.ndarray]]:
    import jax

    from scaling.model.policy import Policy, save_policy
    from scaling.model.sizes import model_config
    from scaling.model.transformer import architecture

    config = model_config(size, VOCABULARY)
    folder = Path(__file__).parent / ".cache" / f"random-{size}"
    folder.mkdir(parents=True, exist_ok=True)
    save_policy(Policy(architecture(config).init(jax.random.key(0)), config), folder)
    return json.loads((folder / "policy.json").read_text()), load_file(folder / "policy.safetensors")


def _for_transformers(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our names and layouts in those of Llama; its linear weights are transposed."""
    names = {
        "attention.query.kernel": "self_attn.q_proj.weight",
        "attention.key.kernel": "self_attn.k_proj.weight",
        "attention.value.kernel": "self_attn.v_proj.weight",
        "attention.output.kernel": "self_attn.o_proj.weight",
        "ffn.gate.kernel": "mlp.gate_proj.weight",
        "ffn.up.kernel": "mlp.up_proj.weight",
        "ffn.down.kernel": "mlp.down_proj.weight",
        "attention_norm.scale": "input_layernorm.weight",
        "ffn_norm.scale": "post_attention_layernorm.weight",
    }
    renamed = {
        "model.embed_tokens.weight": tensors["embedding.embedding"],
        "model.norm.weight": tensors["final_norm.scale"],
    }
    for name, tensor in tensors.items():
        if name.startswith("layers."):
            _, index, rest = name.split(".", 2)
            renamed[f"model.layers.{index}.{names[rest]}"] = np.ascontiguousarray(tensor.T)
    return renamed


def _config(shape: dict) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape["vocab_size"],
        "hidden_size": shape["width"],
        "intermediate_size": shape["ffn_width"],
        "num_hidden_layers": shape["num_layers"],
        "num_attention_heads": shape["num_heads"],
        "num_key_value_heads": shape["num_kv_heads"],
        "head_dim": shape["head_width"],
        "rms_norm_eps": shape["norm_epsilon"],
        "rope_theta": shape["rope_theta"],
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
        "dtype": "float32",
    }
