"""Translate between the config.json of a Hugging Face checkpoint and the decoder's shape.

In: a checkpoint's folder. Out: `ModelConfig`, read through `transformers.AutoConfig`; and back, a plain dict that
`transformers` and servers read. Code that comes with a checkpoint is never run. Features that the decoder does not
have are refused by name: a checkpoint loads completely and exactly, or not at all.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from scaling.model.sizes import ROPE_SCALINGS, ModelConfig, RopeScaling

CONFIG_FILE, GENERATION_FILE = "config.json", "generation_config.json"
# model_type -> the class that computes logits. SmolLM2 and DeepSeek-Math are of type llama, Qwen2.5 of type qwen2.
SUPPORTED: Mapping[str, str] = MappingProxyType(
    {
        "llama": "LlamaForCausalLM",
        "mistral": "MistralForCausalLM",
        "qwen2": "Qwen2ForCausalLM",
        "qwen3": "Qwen3ForCausalLM",
    }
)

_ROPE_KEYS: Mapping[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}


def read_config(folder: Path) -> ModelConfig:
    """The shape of the checkpoint in a folder; raises ValueError naming what the decoder does not know."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"{folder} has no {CONFIG_FILE}; give the folder of a Hugging Face checkpoint.")
    stated = json.loads(path.read_text(encoding="utf-8"))
    model_type = stated.get("model_type")
    if model_type not in SUPPORTED:
        raise ValueError(f"{path}: model_type is {model_type!r}; the decoder knows {', '.join(SUPPORTED)}.")
    architectures = stated.get("architectures") or [SUPPORTED[model_type]]
    if architectures != [SUPPORTED[model_type]]:
        raise ValueError(f"{path}: architectures is {architectures}; expected [{SUPPORTED[model_type]!r}].")
    if stated.get("quantization_config"):
        raise ValueError(f"{path} has a quantization_config; give the checkpoint in float32, bfloat16 or float16.")
    _check_rope(stated, path)
    try:
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoConfig
    except ImportError as error:
        raise ImportError(
            "reading a Hugging Face checkpoint needs the package transformers, which is not installed; install the"
            " project with its extra: pip install --editable '.[hf]'."
        ) from error
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        return _shape(config, _stop_tokens(folder, stated))
    except (ValueError, StrictDataclassError) as error:
        raise ValueError(f"{path}: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:  # the config is incomplete
        raise ValueError(f"{path} lacks a key or has one of another kind ({error!r}); complete it.") from error


def as_config(shape: ModelConfig) -> dict[str, object]:
    """The config.json of a decoder, of the first architecture that computes the same; positions in the older keys.

    Transformers 4 and 5 and the servers read rope_theta and rope_scaling.
    """
    model_type = _model_type(shape)
    config: dict[str, object] = {
        "model_type": model_type,
        "architectures": [SUPPORTED[model_type]],
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.ffn_width,
        "hidden_act": "silu",
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": not shape.untied_head,
        "dtype": "float32",
    }
    if shape.max_positions is not None:
        config["max_position_embeddings"] = shape.max_positions
    if shape.stop_tokens is not None:
        config["eos_token_id"] = list(shape.stop_tokens)
    if shape.rope_scaling is not None:
        config["rope_scaling"] = _stated_scaling(shape.rope_scaling)
    if model_type in ("llama", "qwen3"):
        config["attention_bias"] = shape.output_bias
    if model_type == "mistral":
        config["sliding_window"] = shape.sliding_window
    elif shape.sliding_window is not None:
        config |= {"use_sliding_window": True, "sliding_window": shape.sliding_window, "max_window_layers": 0}
    return config


def _stop_tokens(folder: Path, stated: Mapping[str, Any]) -> tuple[int, ...] | None:
    """What the checkpoint states, in generation_config.json or otherwise config.json; class defaults do not count."""
    path = folder / GENERATION_FILE
    generation = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for file, named in ((GENERATION_FILE, generation), (CONFIG_FILE, stated)):
        ids = named.get("eos_token_id")
        ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
        if any(isinstance(token, bool) or not isinstance(token, int) for token in ids):
            raise ValueError(f"eos_token_id of {file} is {named['eos_token_id']!r}; expected an integer or several.")
        if ids:
            return tuple(ids)
    return None


def _shape(config: Any, stop_tokens: tuple[int, ...] | None) -> ModelConfig:
    """The decoder of a `transformers` config of a supported type."""
    if config.hidden_act not in ("silu", "swish"):
        raise ValueError(f"hidden_act is {config.hidden_act!r}; the decoder knows silu.")
    if getattr(config, "mlp_bias", False):
        raise ValueError("mlp_bias is true; the decoder's feed-forward layers have no biases.")
    bias = config.attention_bias if config.model_type in ("llama", "qwen3") else False
    return ModelConfig(
        vocab_size=config.vocab_size,
        width=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_width=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        ffn_width=config.intermediate_size,
        rope_theta=float(config.rope_parameters["rope_theta"]),
        norm_epsilon=config.rms_norm_eps,
        rope_scaling=_scaling(config.rope_parameters),
        sliding_window=_window(config),
        max_positions=config.max_position_embeddings,
        untied_head=not config.tie_word_embeddings,
        qkv_bias=bias or config.model_type == "qwen2",
        output_bias=bias,
        qk_norm=config.model_type == "qwen3",
        stop_tokens=stop_tokens,
    )


def _scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = rope["rope_type"]
    if rope.get("partial_rotary_factor", 1.0) not in (None, 1.0):
        raise ValueError(f"partial_rotary_factor is {rope['partial_rotary_factor']}; the decoder rotates whole heads.")
    if kind == "default":
        return None
    if kind not in ROPE_SCALINGS:
        raise ValueError(f"rope_type is {kind!r}; the decoder knows default, {', '.join(ROPE_SCALINGS)}.")
    if kind == "linear":
        return RopeScaling(kind, float(rope["factor"]))
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    return RopeScaling(kind, float(rope["factor"]), low, high, rope["original_max_position_embeddings"])


def _check_rope(stated: Mapping[str, Any], path: Path) -> None:
    """Refuse an incomplete scaling: transformers would ignore one without its kind."""
    for name in ("rope_scaling", "rope_parameters"):
        rope = stated.get(name)
        if not isinstance(rope, Mapping) or not any(
            key in rope for key in ("type", "rope_type", *_ROPE_KEYS["llama3"])
        ):
            continue
        kind = rope.get("rope_type") or rope.get("type")
        needed = _ROPE_KEYS.get(str(kind), ())
        missing = ["rope_type"] if kind is None else [key for key in needed if rope.get(key) is None]
        if rope.get("original_max_position_embeddings", 0) is None:
            missing.append("original_max_position_embeddings")
        if missing:
            raise ValueError(f"{path}: {name} is {dict(rope)}, without {missing[0]!r}; complete it, or take it out.")


def _stated_scaling(scaling: RopeScaling) -> dict[str, object]:
    stated: dict[str, object] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        stated["low_freq_factor"] = scaling.low_frequency_factor
        stated["high_freq_factor"] = scaling.high_frequency_factor
        stated["original_max_position_embeddings"] = scaling.original_max_positions
    return stated


def _window(config: Any) -> int | None:
    """Mistral has one window in every layer; Qwen says for each layer whether it has one."""
    if config.model_type == "llama":
        return None
    window: int | None = config.sliding_window
    if config.model_type == "mistral":
        return window
    kinds = set(config.layer_types)
    if kinds == {"full_attention"}:
        return None
    if kinds == {"sliding_attention"}:
        return window
    raise ValueError(
        f"layer_types has {', '.join(sorted(kinds))}; the decoder has one kind of attention in all layers."
    )


def _model_type(shape: ModelConfig) -> str:
    features = (shape.qk_norm, shape.qkv_bias, shape.output_bias, shape.sliding_window is not None)
    match features:
        case (True, qkv_bias, output_bias, _) if qkv_bias == output_bias:
            return "qwen3"
        case (False, True, False, _):
            return "qwen2"
        case (False, False, False, True):
            return "mistral"
        case (False, qkv_bias, output_bias, False) if qkv_bias == output_bias:
            return "llama"
    raise ValueError(
        f"(qk_norm, qkv_bias, output_bias, a sliding window) are {features}; none of {', '.join(SUPPORTED)} has this"
        " combination, so the policy cannot be written as a Hugging Face checkpoint."
    )
