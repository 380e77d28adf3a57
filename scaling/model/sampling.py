"""Sampling completions with a cache: the same tokens for a prompt in any batch.

In: params, prompts (lists of token ids), one random key per row. Out: `Sampled`, completions as padded arrays.
Each token's randomness is `fold_in(row key, position in the completion)`, so a completion does not depend on the
batch, the padding or the worker (except near-ties in float32).

Prompts are padded on the left, so that every row writes the same cache slot: the update is one slice, in place.
Rows are sorted by the length of their prompts and cut into chunks of one of two sizes, each padded to a multiple of
BUCKET tokens. This gives few shapes, so few compilations, little filler, and no row pays for the longest prompt. For
the large policy of a checkpoint other things are expensive: its chunks may be small, and are padded to a multiple of
WIDE_BUCKET. Rows with the same prompt, the M continuations of a prefix, stand together, and their prompt is prefilled
once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.model.memory_need import BUCKET, PREFILL_PROMPTS, SAMPLER_ROWS, padded
from scaling.model.sharding import placed_params, repeated
from scaling.model.sizes import SMALL_VOCABULARY, ModelConfig
from scaling.model.transformer import LayerCache, Params, architecture

WIDE_BUCKET = 64  # the same as BUCKET above SMALL_VOCABULARY, where a compilation takes longer than the filler
CHUNK_SIZES = (64, SAMPLER_ROWS)  # rows of one compiled call
FEW_ROWS = (8, 16, 32)  # of a chunk that is not full, above SMALL_VOCABULARY, where a row of filler is expensive

PAD, BOS, EOS = 0, 1, 2


class Sampled(NamedTuple):
    """Completions in the order of the prompts."""

    tokens: np.ndarray  # int32 [B, T], PAD after the completion
    lengths: np.ndarray  # int32 [B], tokens of the completion, its stop token included
    logps: np.ndarray | None  # float32 [B], completion log-probability at temperature 1; None if a server gives none
    logits: np.ndarray | None = None  # float32 [B, T, V], those that each token was drawn from, where asked for

    @property
    def completions(self) -> list[list[int]]:
        """Each completion's tokens, its stop token included where the policy wrote it."""
        return [row[:length].tolist() for row, length in zip(self.tokens, self.lengths, strict=True)]


def sample(
    params: Params,
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    keys: jax.Array,
    max_new_tokens: Sequence[int],
    temperature: float,
    top_p: float = 1.0,
    positions: Sequence[int] | None = None,
    keep_logits: bool = False,
) -> Sampled:
    """Complete each prompt until a stop token or its own limit of new tokens.

    keys: typed keys [B], see `row_keys`; temperature 0 is greedy and uses none. positions: how many tokens of its
    completion each row's prompt already ends in, 0 unless given. Returns arrays as wide as the largest limit.
    """
    if not len(prompts) == keys.shape[0] == len(max_new_tokens):
        raise ValueError(
            f"{len(prompts)} prompts, {keys.shape[0]} keys and {len(max_new_tokens)} limits; give one of each a row."
        )
    _check_room(prompts, max_new_tokens, config.max_positions)
    params = placed_params(params, config)
    width = max(max_new_tokens, default=0)
    tokens = np.full((len(prompts), width), PAD, np.int32)
    lengths, logps = np.zeros(len(prompts), np.int32), np.zeros(len(prompts), np.float32)
    limits = np.asarray(max_new_tokens, np.int32)
    written = None if positions is None else np.asarray(positions, np.int32)
    logits = np.zeros((len(prompts), width, config.vocab_size), np.float32) if keep_logits else None
    identity = _first_with_same_prompt(prompts)
    # Rows of equal length share a chunk, so little is padded; those of equal limit too, so a chunk ends together; and
    # those of equal prompt, so chunks cut few of the groups that share a prefill. The last key of lexsort counts most.
    order = np.lexsort((identity, limits, np.array([len(prompt) for prompt in prompts], int)))
    is_large = config.vocab_size > SMALL_VOCABULARY
    bucket, sizes = (WIDE_BUCKET, FEW_ROWS + CHUNK_SIZES) if is_large else (BUCKET, CHUNK_SIZES)
    for rows in _chunks(order):
        longest, most_new = max(len(prompts[row]) for row in rows), int(limits[rows].max())
        prompt_width, slots = _widths(longest, most_new, bucket, config.max_positions)
        size = next(size for size in sizes if size >= len(rows))
        # The filler repeats a row: it ends when that row ends and brings no prompt of its own.
        filled = np.concatenate([rows, np.full(size - len(rows), rows[0])])
        prompt_of: np.ndarray | None
        different, prompt_of = np.unique(identity[filled], return_inverse=True)
        # The number of different prompts is rounded up too: each number of them would compile another program.
        room = min(size, next(size for size in PREFILL_PROMPTS if size >= len(different)))
        if room == size:  # nothing to share: every row brings its own prompt
            different, prompt_of = filled, None
        different = np.concatenate([different, np.full(room - len(different), different[0])])
        batch, starts = _left_padded([prompts[row] for row in different], prompt_width)
        chunk = _Chunk(
            batch,
            starts,
            prompt_of,
            chosen_keys(keys, filled),
            limits[filled],
            jnp.float32(temperature),
            jnp.float32(top_p),
            None if written is None else written[filled],
        )
        program = _Program(config, slots, greedy=temperature == 0, nucleus=top_p < 1, keep_logits=keep_logits)
        new, count, logp, drawn_from = _generate(params, chunk, program)
        keep = min(slots, width)  # slots are rounded up to the bucket
        tokens[rows, :keep] = np.asarray(new)[: len(rows), :keep]
        lengths[rows] = np.asarray(count)[: len(rows)]
        logps[rows] = np.asarray(logp)[: len(rows)]
        if logits is not None:
            logits[rows, :keep] = np.asarray(drawn_from)[: len(rows), :keep]
    return Sampled(tokens, lengths, logps, logits)


def chunk_call(
    params: Params, config: ModelConfig, rows: int, prompts: int, prompt_tokens: int, new_tokens: int
) -> tuple[Any, tuple[Any, ...]]:
    """The compiled function of a chunk and the shapes of its arguments, for compilation without arrays.

    params: their shapes. The chunk is `rows` drawn completions of `prompts` different prompts.
    """
    shape: Any = jax.ShapeDtypeStruct
    scalar, numbers = shape((), np.float32), shape((rows,), np.int32)
    chunk = _Chunk(
        shape((prompts, prompt_tokens), np.int32),
        shape((prompts,), np.int32),
        numbers if prompts < rows else None,
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows)),
        numbers,
        scalar,
        scalar,
        written=None,
    )
    return _generate, (params, chunk, _Program(config, new_tokens, greedy=False, nucleus=False))


def stop_tokens(config: ModelConfig) -> tuple[int, ...]:
    """The ids that end a completion: the word tokenizer's EOS, or those of the policy's own tokenizer."""
    return config.stop_tokens or (EOS,)


def row_keys(root: jax.Array, ids: np.ndarray) -> jax.Array:
    """Typed keys [B]: the root key with the uint32 [B, K] ids of each row folded in, one after the other."""
    room = max(64, 1 << (len(ids) - 1).bit_length())  # few shapes to compile, for any number of rows
    padded = np.zeros((room, ids.shape[1]), np.uint32)
    padded[: len(ids)] = ids
    return chosen_keys(_folded(root, padded), np.arange(len(ids)))


def chosen_keys(keys: jax.Array, rows: np.ndarray) -> jax.Array:
    """keys[rows], on the host: on the device, each number of keys and of rows would compile another program."""
    data = np.asarray(jax.random.key_data(keys))[rows]
    chosen: jax.Array = jax.random.wrap_key_data(data, impl=jax.random.key_impl(keys))
    return chosen


@jax.jit
def _folded(root: jax.Array, ids: jax.Array) -> jax.Array:
    columns = range(ids.shape[1])
    return jax.vmap(lambda row: reduce(jax.random.fold_in, [row[column] for column in columns], root))(ids)


class _Chunk(NamedTuple):
    """The rows of one compiled call, B of them, with U different prompts. Temperature and top_p are traced."""

    prompts: np.ndarray  # int32 [U, P], padded on the left
    starts: np.ndarray  # int32 [U], how much padding
    prompt_of: np.ndarray | None  # int [B], the prompt of each row; None where row i has prompt i and U = B
    keys: jax.Array  # typed keys [B]
    limits: np.ndarray  # int32 [B], the most new tokens of each row
    temperature: jax.Array  # float32 []
    top_p: jax.Array  # float32 []
    written: np.ndarray | None  # int32 [B], tokens of its completion that each prompt ends in; None means 0


@dataclass(frozen=True)
class _Program:
    """What a call is compiled for."""

    config: ModelConfig
    num_new: int  # slots for new tokens
    greedy: bool
    nucleus: bool  # whether top_p cuts anything
    keep_logits: bool = False


class _Carry(NamedTuple):
    """What goes from one new token of a batch to the next."""

    position: jax.Array  # int32 [], in the completions
    logits: jax.Array  # float32 [B, V], of the token there
    tokens: jax.Array  # int32 [B, num_new]
    lengths: jax.Array  # int32 [B]
    done: jax.Array  # bool [B]
    logps: jax.Array  # float32 [B]
    logits_kept: jax.Array | None  # float32 [B, num_new, V], where asked for
    caches: list[LayerCache]


@partial(jax.jit, static_argnames="program")
def _generate(
    params: Params, chunk: _Chunk, program: _Program
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Tokens int32 [B, num_new], lengths [B], logps [B] and, where kept, logits [B, num_new, V]."""
    prompts, starts, prompt_of, keys, limits, temperature, top_p, written = chunk
    num_new = program.num_new
    model = architecture(program.config)
    params = model.cast(params)  # once a call, not once a token
    batch, prompt_length = len(limits), prompts.shape[1]
    logits, caches = model.prefill(params, prompts, starts, prompt_length)
    if prompt_of is not None:
        logits, starts, caches = jax.tree.map(lambda array: array[prompt_of], (logits, starts, caches))
    # Room for the new tokens is added after the prompts are spread over the rows, so the prefill holds U short caches.
    caches = [layer_cache.widened(num_new) for layer_cache in caches]

    def pick(logits: jax.Array, position: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_probs = jax.nn.log_softmax(logits, axis=-1)  # of the policy itself, without temperature and nucleus
        if program.greedy:
            token = _first_of_largest(logits)
        else:
            scaled = logits / temperature
            if program.nucleus:
                scaled = _keep_nucleus(scaled, top_p)
            # Gumbel-max: each draw depends on a row's key and its place in the completion only, so a completion that
            # is continued from a prefix of itself ends as it would have without the break.
            places = jnp.full(batch, position) if written is None else jnp.add(written, position)
            token = _first_of_largest(scaled + gumbel_noise(keys, places, logits.shape[-1]))
        return token, jnp.take_along_axis(log_probs, token[:, None], axis=-1)[:, 0]

    def unfinished(carry: _Carry) -> jax.Array:
        return (carry.position < num_new) & ~jnp.all(carry.done)

    def advance(carry: _Carry) -> _Carry:
        position, logits, tokens, lengths, done, logps, kept, caches = carry
        token, token_logps = pick(logits, position)
        if kept is not None:
            kept = jax.lax.dynamic_update_slice_in_dim(kept, logits[:, None], position, axis=1)
        token = jnp.where(done, PAD, token)
        tokens = jax.lax.dynamic_update_slice_in_dim(tokens, token[:, None], position, axis=1)
        lengths = lengths + ~done
        logps = logps + jnp.where(done, 0.0, token_logps)
        stopped = jnp.any(token[:, None] == jnp.array(stop_tokens(program.config))[None], axis=-1)
        done = done | stopped | (lengths >= limits)
        logits, caches = model.decode(params, token, prompt_length + position, starts, caches)
        return _Carry(position + 1, logits, tokens, lengths, done, logps, kept, caches)

    carry = _Carry(
        jnp.int32(0),
        logits,
        jnp.full((batch, num_new), PAD, jnp.int32),
        jnp.zeros(batch, jnp.int32),
        jnp.less_equal(limits, 0),  # rows that may write nothing are done at once
        jnp.zeros(batch, jnp.float32),
        jnp.zeros((batch, num_new, logits.shape[-1]), jnp.float32) if program.keep_logits else None,
        caches,
    )
    # A loop with a condition, not a scan: it ends when the longest completion does, often long before num_new.
    last: _Carry = jax.lax.while_loop(unfinished, advance, carry)
    return repeated((last.tokens, last.lengths, last.logps, last.logits_kept))


def gumbel_noise(keys: jax.Array, positions: jax.Array, vocabulary: int) -> jax.Array:
    """float32 [B, V]: what decides the token at a row's position in its completion, added to scaled logits."""
    return jax.vmap(lambda key, position: jax.random.gumbel(jax.random.fold_in(key, position), (vocabulary,)))(
        keys, positions
    )


def _first_of_largest(values: jax.Array) -> jax.Array:
    """The argmax, int32 [B] of [B, V]; XLA's CPU code for argmax is scalar, and draws the noise in it twice."""
    vocabulary = values.shape[-1]
    largest = jnp.max(values, axis=-1, keepdims=True)
    return jnp.min(jnp.where(values == largest, jnp.arange(vocabulary, dtype=jnp.int32), vocabulary), axis=-1)


def _keep_nucleus(logits: jax.Array, top_p: jax.Array) -> jax.Array:
    """Mask all tokens outside the smallest set whose probability reaches top_p (Holtzman et al. 2020)."""
    ordered = jnp.sort(logits, axis=-1)[:, ::-1]
    probs = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probs, axis=-1) - probs  # mass of the tokens that rank higher
    threshold = jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= threshold, logits, -jnp.inf)


def _first_with_same_prompt(prompts: Sequence[Sequence[int]]) -> np.ndarray:
    """int [B]: for each row the first row that has its prompt."""
    first: dict[tuple[int, ...], int] = {}
    return np.array([first.setdefault(tuple(prompt), row) for row, prompt in enumerate(prompts)], int)


def _check_room(prompts: Sequence[Sequence[int]], max_new_tokens: Sequence[int], room: int | None) -> None:
    """Refuse rows that exceed the policy's context: the longest prompts are sampled last, perhaps hours later."""
    if room is None or not len(prompts):
        return
    needed = [len(prompt) + limit for prompt, limit in zip(prompts, max_new_tokens, strict=True)]
    too_long = sum(length > room for length in needed)
    if too_long:
        row = int(np.argmax(needed))
        raise ValueError(
            f"{too_long} of {len(needed)} rows do not fit into the {room} positions that the policy was made for (its"
            f" max_positions): the longest is a prompt of {len(prompts[row])} tokens with up to {max_new_tokens[row]}"
            " new ones; lower max_new_tokens, or leave out the longest problems."
        )


def _widths(longest: int, most_new: int, bucket: int, room: int | None) -> tuple[int, int]:
    """Slots of a chunk's prompts and completions: multiples of the bucket, if the policy has room for that."""
    width, slots = padded(longest, bucket), padded(most_new, bucket)
    if room is None or width + slots <= room or longest + max(1, most_new) > room:
        return width, slots
    slots = min(slots, room - longest)
    return min(width, room - slots), slots


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    """Chunks of the largest size; the rest in small ones, if two of them hold it."""
    small, large = CHUNK_SIZES
    whole = len(rows) - len(rows) % large
    chunks = [rows[start : start + large] for start in range(0, whole, large)]
    left = rows[whole:]
    step = small if len(left) <= 2 * small else large
    return chunks + [left[start : start + step] for start in range(0, len(left), step)]


def _left_padded(prompts: Sequence[Sequence[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """int32 [B, length] with the padding in front, and int32 [B], how much padding."""
    batch = np.full((len(prompts), length), PAD, np.int32)
    for row, prompt in enumerate(prompts):
        batch[row, length - len(prompt) :] = prompt
    starts = np.array([length - len(prompt) for prompt in prompts], np.int32)
    return batch, starts
