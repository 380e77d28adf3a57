"""The memory that a stage needs on one device, predicted before it starts; pure arithmetic, no jax.

In: a decoder's shape, the sizes of a mesh, and how much is computed at once. Out: bytes by purpose; their sum is the
peak. tests/test_memory.py compares the sums with what XLA allocates on CPU (`memory_analysis`), in float32, over
many shapes and meshes: within a quarter. The factors of activations are counts of the arrays that XLA keeps there.
bfloat16 and remat are counted, not checked: XLA on CPU computes both away; nor is cuDNN's attention, which needs a GPU.
One prediction is too low by more, up to 2.6 times the cache: sampling with a single key head on each of eight `tensor`
devices, whose cache XLA on CPU keeps in two layouts. An accelerator's own needs (its context, its library's workspaces,
fragmentation) are not included.

A checkpoint's vocabulary in bfloat16 or on several devices is counted as the TPU compiler treats it: params are
gathered by the layer, the vocabulary is computed by the tile, and an update copies scanned layers. The factors are
those that bring the sums within a tenth of what that compiler says at 30 layers, on two slices
(benchmarks/results/tpu.json; the table is in docs/performance.md).
"""

from collections.abc import Mapping
from dataclasses import replace

from scaling.config.policy import Lora
from scaling.model.flops import adapter_params
from scaling.model.layout import params_on_device, share
from scaling.model.sizes import CUDNN, SCANNED, SMALL_VOCABULARY, TILE, XLA, ModelConfig

FLOAT32 = 4  # bytes
# Tokens of a micro-batch on one device, padding included, unless a sweep's `memory` sets them. A CPU core's caches
# hold the activations of a few hundred: at size xs a token of 8 x 72 takes 26 microseconds, one of 32 x 72 takes 43. An
# accelerator wants as many as its memory holds: at 128,000 words, float32 logits, softmax and gradients take 2 MB each.
CPU_TOKENS, ACCELERATOR_TOKENS = 320, 8_192
SAMPLER_ROWS = 128  # the largest chunk of rows that is sampled in one compiled call
PREFILL_PROMPTS = (16, 64, 256)  # how many different prompts such a call has room for
SCORING_ROWS = 1024  # the most rows whose log-probabilities are computed in one compiled call
BUCKET = 8  # sequence lengths are padded to a multiple, so that data sets of a family share compiled updates


def training_memory(
    config: ModelConfig,
    axes: Mapping[str, int],
    rows: int,
    length: int,
    lora: Lora | None = None,
    remat: bool = False,
    whole_logits: bool = False,
) -> dict[str, float]:
    """Bytes by purpose at the peak of an update, in the backward pass of a micro-batch.

    rows: sequences of a micro-batch on one device, two for a preference pair; length: tokens of each, padding included.
    whole_logits: the loss reads all logits, so that a large vocabulary is not computed in tiles.
    """
    held = FLOAT32 * params_on_device(config, axes)
    trained = held if lora is None else FLOAT32 * adapter_params(config, lora)
    tokens = rows * length
    activations = tokens * _activations(config, axes, length, remat)
    tiled = _is_large(config, axes) and not whole_logits
    # Logits, their softmax, and the gradients of both; of a tile the first two.
    arrays, words = (2, min(TILE, config.vocab_size)) if tiled else (4, config.vocab_size)
    logits = arrays * FLOAT32 * tokens * words * share("vocab", config, axes)
    if tiled and remat:  # they are made when nothing but the layers' inputs is kept
        logits = max(0.0, logits - activations + tokens * config.num_layers * _bytes(config) * config.width)
    unsummed = _unsummed(config, axes) if lora is None and not _is_large(config, axes) else 0.0
    return {
        # The policy that training starts from stays in memory: DPO's reference, what adapters add to, or a copy.
        "start policy": held,
        "params": trained,
        "AdamW moments": 2 * trained,
        "gradients": trained,
        "gathered params": _gathered(config, axes, whole_logits),
        "params and gradients as computed with": 2 * _stacked(config, axes),
        "activations": activations,
        "logits": logits,
        # They are made while activations are freed.
        "gradients before their sum": max(0.0, unsummed - activations - logits),
    }


def sampling_memory(
    config: ModelConfig, axes: Mapping[str, int], rows: int, prompts: int, prompt_tokens: int, new_tokens: int
) -> dict[str, float]:
    """Bytes by purpose while one chunk is sampled. rows, prompts: of the chunk on one device; rows share prompts."""
    size = _bytes(config)
    held = params_on_device(config, axes)
    kv_width = config.num_kv_heads * config.head_width * share("kv_heads", config, axes)
    return {
        "params": FLOAT32 * held,
        "params as computed with": size * held if config.bfloat16 else 0.0,
        "gathered params": _gathered_at_once(config, axes),
        "cache": size * rows * (prompt_tokens + new_tokens) * config.num_layers * 2 * kv_width,
        "activations": prompts * prompt_tokens * _forward_activations(config, axes, prompt_tokens),
    }


def _is_large(config: ModelConfig, axes: Mapping[str, int]) -> bool:
    """Whether the vocabulary is computed in tiles, by the rule of scaling.model.vocabulary."""
    return config.vocab_size > SMALL_VOCABULARY and (config.bfloat16 or any(size > 1 for size in axes.values()))


def _layer(config: ModelConfig, axes: Mapping[str, int]) -> float:
    """How many numbers of one layer's params a device holds."""
    without = params_on_device(replace(config, num_layers=0), axes)
    return params_on_device(replace(config, num_layers=1), axes) - without


def _stacked(config: ModelConfig, axes: Mapping[str, int]) -> float:
    """Bytes of the copies that scanned layers read; there are none with a small vocabulary."""
    scanned = _is_large(config, axes) and config.num_layers >= SCANNED
    return _bytes(config) * config.num_layers * _layer(config, axes) if scanned else 0.0


def scoring_memory(config: ModelConfig, axes: Mapping[str, int], rows: int, length: int) -> dict[str, float]:
    """Bytes by purpose of a forward pass for log-probabilities: nothing is kept for a gradient, and there is no cache.

    rows: sequences of a micro-batch on one device; length: tokens of each, padding included.
    """
    tokens = rows * length
    activations = tokens * _forward_activations(config, axes, length)
    large = _is_large(config, axes)
    words = min(TILE, config.vocab_size) if large else config.vocab_size
    logits = 2 * FLOAT32 * tokens * words * share("vocab", config, axes)  # and their log-softmax
    return {
        "params": FLOAT32 * params_on_device(config, axes),
        # Of scanned layers, three are gathered ahead of the one that is computed.
        "gathered params": (4 if large and config.num_layers >= SCANNED else 1) * _gathered(config, axes),
        "activations": activations,
        "logits": max(0.0, logits - activations),  # they are made after the last layer's activations are freed
    }


def rows_on_device(tokens_a_row: int, batch_rows: int, tokens_limit: int) -> int:
    """Rows of a micro-batch: the largest power of two with at most tokens_limit, and no more than the batch fills."""
    fitting = max(1, tokens_limit // tokens_a_row)
    return 1 << min(fitting.bit_length() - 1, (batch_rows - 1).bit_length())


def padded(length: float, bucket: int = BUCKET) -> int:
    """A length padded as in batches."""
    return max(bucket, int(-(-length // bucket)) * bucket)


def _activations(config: ModelConfig, axes: Mapping[str, int], length: int, remat: bool) -> float:
    """Bytes per token that the backward pass needs from all layers; with remat, only their inputs and one layer."""
    size = _bytes(config)
    heads = config.num_heads * share("heads", config, axes)
    kv_width = config.num_kv_heads * config.head_width * share("kv_heads", config, axes)
    ffn = config.ffn_width * share("ffn", config, axes)
    layer = size * (8 * config.width + heads * config.head_width + 3 * kv_width + 5 * ffn)
    layer += 3 * _logits(config, heads, length)  # attention logits, weights and a gradient
    ends = FLOAT32 * 4 * config.width + (0.0 if _is_large(config, axes) else _logits(config, heads, length))
    if config.attention == CUDNN:
        layer += FLOAT32 * heads  # the logarithm of each softmax's sum
        ends += 2 * size * length  # the mask of packed rows, which all layers share, and its gradient
    if remat:
        return config.num_layers * size * config.width + layer + ends
    return config.num_layers * layer + ends


def _forward_activations(config: ModelConfig, axes: Mapping[str, int], length: int) -> float:
    """Bytes per token that a forward pass holds at once."""
    heads = config.num_heads * share("heads", config, axes)
    large = _is_large(config, axes)
    ffn = (5.5 if large else 3.5) * config.ffn_width * share("ffn", config, axes)
    working = ffn + 2 * heads * config.head_width
    arrays = 2 if config.attention == XLA or large else 1
    mask = _bytes(config) * length if config.attention == CUDNN else 0.0  # of left-padded or packed rows
    stream = (_bytes(config) + FLOAT32) * config.width if large else 0.0  # and its norm, which no device has a share of
    return _bytes(config) * working + arrays * _logits(config, heads, length) + mask + stream


def _logits(config: ModelConfig, heads: float, length: int) -> float:
    """Bytes per token of attention logits, of which cuDNN holds none in memory."""
    return 0.0 if config.attention == CUDNN else FLOAT32 * heads * length


def _gathered(config: ModelConfig, axes: Mapping[str, int], whole_logits: bool = False) -> float:
    """Bytes of the gathered params of one layer, and of the output projection where all logits are read, if large."""
    if not _is_large(config, axes):
        return _gathered_at_once(config, axes)
    projection = config.vocab_size * config.width * share("vocab", config, axes) if whole_logits else 0.0
    return _bytes(config) * (_layer(config, {**axes, "fsdp": 1}) + projection) if axes["fsdp"] > 1 else 0.0


def _gathered_at_once(config: ModelConfig, axes: Mapping[str, int]) -> float:
    """Bytes of the params of all layers that come from other devices: XLA on CPU gathers them once for both passes.

    For accelerators, where XLA schedules for memory, this is an upper estimate, and even more so with remat.
    """
    whole = params_on_device(config, {**axes, "fsdp": 1})
    return _bytes(config) * whole * (1 - 1 / axes["fsdp"])


def _unsummed(config: ModelConfig, axes: Mapping[str, int]) -> float:
    """Bytes of gradients of one device's rows, whole before they are summed over devices; the same holds for them."""
    whole = FLOAT32 * params_on_device(config, {**axes, "fsdp": 1})
    if axes["fsdp"] > 1:
        return whole
    return 2 * whole if axes["data"] > 1 else 0.0


def _bytes(config: ModelConfig) -> int:
    """The size of a number in computations."""
    return 2 if config.bfloat16 else FLOAT32
