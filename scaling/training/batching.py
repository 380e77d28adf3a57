"""From token lists to padded arrays, and the order in which they are trained on.

The order of an epoch depends on the seed and the epoch only, so an update's batch follows from its index: a
resumed run sees exactly the batches that an unbroken run would have seen.

A batch is cut into micro-batches, longest rows first. Each is as wide as its longest row, and has about
`micro_batch_tokens()` tokens: short rows cost little, and the results of a micro-batch stay in a core's caches. With a
checkpoint's policy, for which another shape is minutes of compilation, several sequences share a row instead
(scaling.model.packing). The grouping of rows never changes what is learned: the update divides once, by the batch's
count.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from scaling.model.memory_need import ACCELERATOR_TOKENS, BUCKET, CPU_TOKENS, rows_on_device
from scaling.model.packing import Call, Packing, calls_of, is_packed, packing_of
from scaling.model.sharding import row_multiple
from scaling.model.sizes import ModelConfig
from scaling.training.memory_settings import current_memory

PAD = 0
# Arrays [N, ..., T], whose width a micro-batch cuts.
PER_TOKEN = ("tokens", "mask", "old_token_logps", "ref_token_logps", "token_gains")

# A micro-batch: which rows, and their arrays.
MicroBatch = tuple[np.ndarray, dict[str, Any]]


@dataclass(frozen=True)
class Sequences:
    """Padded token sequences with what is learned from them."""

    tokens: np.ndarray  # int32 [N, T], PAD on the right
    mask: np.ndarray  # float32 [N, T], 1 where the token counts in the loss, or its weight there
    lengths: np.ndarray  # int32 [N], tokens without padding


def sequences(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> Sequences:
    """Prompts and completions joined; all tokens of completions count, and no token of a prompt."""
    masks = [[1.0] * len(completion) for completion in completions]
    return masked_sequences(prompts, completions, masks)


def masked_sequences(
    prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]], masks: Sequence[Sequence[float]]
) -> Sequences:
    """The same with one weight for each token of a completion, 0 for what is not learned."""
    lengths = np.array(
        [len(prompt) + len(completion) for prompt, completion in zip(prompts, completions, strict=True)], np.int32
    )
    width = -(-int(lengths.max(initial=1)) // BUCKET) * BUCKET
    tokens = np.full((len(prompts), width), PAD, np.int32)
    mask = np.zeros((len(prompts), width), np.float32)
    for row, (prompt, completion, weights) in enumerate(zip(prompts, completions, masks, strict=True)):
        if len(weights) != len(completion):  # numpy would spread a single weight over the completion
            raise ValueError(
                f"row {row} has {len(completion)} completion tokens and {len(weights)} weights; give one each."
            )
        tokens[row, : lengths[row]] = [*prompt, *completion]
        mask[row, len(prompt) : lengths[row]] = weights
    return Sequences(tokens, mask, lengths)


@dataclass(frozen=True)
class Schedule:
    """The rows of each update: epochs in random order; the last batch of an epoch may be smaller."""

    num_rows: int
    batch_size: int
    epochs: int
    seed: int

    def __post_init__(self) -> None:
        if self.num_rows < 1:
            raise ValueError("there is nothing to train on: 0 rows. The stage before made an empty data set.")

    @property
    def updates_per_epoch(self) -> int:
        return -(-self.num_rows // self.batch_size)

    @property
    def num_updates(self) -> int:
        return self.updates_per_epoch * self.epochs

    def rows(self, update_index: int) -> np.ndarray:
        """Indices int [batch_size or fewer] of the rows of this update."""
        epoch, batch = divmod(update_index, self.updates_per_epoch)
        order = np.random.default_rng([0x0BDE2, self.seed, epoch]).permutation(self.num_rows)
        return order[batch * self.batch_size : (batch + 1) * self.batch_size]


def micro_batch_tokens() -> int:
    """The number of tokens of one compiled call: from the section `memory`, or by the kind of machine."""
    usual = CPU_TOKENS if jax.default_backend() == "cpu" else ACCELERATOR_TOKENS
    return current_memory().micro_batch_tokens or usual


def cutter(
    arrays: Mapping[str, np.ndarray],
    updates: Iterable[np.ndarray],
    lengths: np.ndarray,
    batch_size: int,
    config: ModelConfig,
    packs: bool = True,
) -> Callable[[np.ndarray], Iterator[MicroBatch]]:
    """How the rows of each of these updates become micro-batches, packed where the policy's are.

    arrays, batch_size: as for `micro_batches`; lengths: int [N] or, of rows that are several sequences, [N, S]; packs:
    see `Objective`. Packed, no more than batch_size rows are laid out together, as a plan assumes.
    """
    of_rows = lengths if lengths.ndim == 2 else lengths[:, None]
    if not (packs and is_packed(config) and current_memory().packing and len(lengths)):
        longest = of_rows.max(axis=1)
        return lambda rows: micro_batches(arrays, rows, longest, batch_size)
    config.check_room(int(of_rows.max()))

    def parts(rows: np.ndarray) -> list[np.ndarray]:
        return np.split(rows, range(batch_size, len(rows), batch_size))

    together = [of_rows[part].tolist() for rows in updates for part in parts(rows)]
    packing = packing_of(together, row_multiple(), micro_batch_tokens())
    return lambda rows: (batch for part in parts(rows) for batch in packed_batches(arrays, part, of_rows, packing))


def packed_batches(
    arrays: Mapping[str, np.ndarray], rows: np.ndarray, lengths: np.ndarray, packing: Packing
) -> Iterator[MicroBatch]:
    """The micro-batches of an update whose sequences share rows, each with an entry `packed` for `packed_apply`.

    lengths: int [N, S]. The other arrays are those of `micro_batches`, all of one shape: they take little room.
    """
    for call in calls_of(lengths[rows].tolist(), packing):
        members = rows[list(call.members)]
        batch = _as_wide(take(arrays, members, packing.members), packing.longest)
        apart = batch["tokens"].reshape(-1, packing.longest)
        yield members, {**batch, "packed": _packed(call, apart, lengths[members].ravel())}


def _packed(call: Call, apart: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of a call: tokens int32 [R, W]; begins int32 [R, W], the slot of its row at which each token's sequence
    begins; starts int32 [B], where each sequence begins, counted over the slots of all rows.

    apart: int32 [B, T], the sequences with filler behind them; lengths: int, of those that are no filler.
    """
    shape = (len(call.places), call.width)
    tokens, starts = np.full(shape, PAD, np.int32), np.zeros(len(apart), np.int32)
    begins = np.broadcast_to(np.arange(call.width, dtype=np.int32), shape).copy()  # a slot of filler sees itself
    for row, members in enumerate(call.places):
        start = 0
        for member in members:
            end = start + int(lengths[member])
            tokens[row, start:end] = apart[member, : end - start]
            begins[row, start:end] = start
            starts[member] = row * call.width + start
            start = end
    return {"tokens": tokens, "begins": begins, "starts": starts}


def micro_batches(
    arrays: Mapping[str, np.ndarray], rows: np.ndarray, lengths: np.ndarray, batch_size: int
) -> Iterator[MicroBatch]:
    """Cut the rows of a batch into (rows, arrays) of few shapes: one for each multiple of BUCKET.

    arrays: those of PER_TOKEN [N, ..., T], of which `tokens` is always there, and any others [N, ...]; rows: int [B],
    which of them; lengths: int [N], the tokens of each, without padding; batch_size: the largest B there is. A
    micro-batch is filled up to its number of rows, with `weight` float32: 1 for a row, 0 for filler.
    """
    width_limit = arrays["tokens"].shape[-1]
    sequences_a_row, devices = int(np.prod(arrays["tokens"].shape[1:-1])), row_multiple()  # a pair has 2 sequences
    left = rows[np.argsort(-lengths[rows], kind="stable")]
    while len(left):
        width = min(max(1, -(-int(lengths[left[0]]) // BUCKET)) * BUCKET, width_limit)
        # On each of the devices over which rows are divided equally many.
        size = devices * rows_on_device(width * sequences_a_row, -(-batch_size // devices), micro_batch_tokens())
        cut = {name: array[..., :width] if name in PER_TOKEN else array for name, array in arrays.items()}
        yield left[:size], take(cut, left[:size], size)
        left = left[size:]


def _as_wide(arrays: Mapping[str, np.ndarray], width: int) -> dict[str, np.ndarray]:
    """The arrays, those of PER_TOKEN cut or padded to a width."""

    def widened(array: np.ndarray) -> np.ndarray:
        cut = array[..., :width]
        return np.pad(cut, [(0, 0)] * (cut.ndim - 1) + [(0, width - cut.shape[-1])])

    return {name: widened(array) if name in PER_TOKEN else array for name, array in arrays.items()}


def take(arrays: Mapping[str, np.ndarray], rows: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
    """The rows of each array, filled up to batch_size, with `weight` float32 [B]: 1 for a row, 0 for filler."""
    filled = np.concatenate([rows, np.zeros(batch_size - len(rows), rows.dtype)])
    batch = {name: array[filled] for name, array in arrays.items()}
    batch["weight"] = (np.arange(batch_size) < len(rows)).astype(np.float32)
    return batch
