"""Sampling that computes no token twice: the completions of `sample`, at less cost if they share beginnings.

In: as for `sample`, in any number of calls. Out: the same completions. A token is the argmax of scaled logits
plus noise that follows from the row's key and its position, and the logits follow from the tokens before it. So if
an earlier call met these tokens, with any key, the next token does not need the policy: noise and the kept logits
suffice. A completion is replayed in this way up to the first new place, and sampled
from there. It has the same tokens as if sampled whole, except near-ties in float32: kept logits are of another batch.

Completions of one prompt by a trained policy mostly differ in few places, so most of their tokens are replayed. The
kept logits take 4 V bytes for each sampled token, and the noise 1024 V bytes for each position, so this is for small
vocabularies. Above SMALL_VOCABULARY nothing is kept, every completion is sampled whole, and the tokens are the same.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from scaling.model.flops import sampling_flops
from scaling.model.sampling import Sampled, chosen_keys, gumbel_noise, stop_tokens
from scaling.model.sizes import SMALL_VOCABULARY, ModelConfig

_ROWS = 256  # rows whose noise is drawn in one compiled call


class Replay:
    """One policy at one temperature with the logits so far, if it keeps them, and their cost."""

    def __init__(
        self, sampler: Callable[..., Sampled], config: ModelConfig, temperature: float, keeps_logits: bool = True
    ) -> None:
        """sampler: `sample` of the policy, or that of a server, which has a cache of its own: then no logits are kept.

        keeps_logits: whether to keep them if the vocabulary is small enough.
        """
        if temperature == 0:
            raise ValueError("temperature is 0; a greedy completion has no noise to replay, use `sample`.")
        self._sampler, self._config, self._temperature = sampler, config, np.float32(temperature)
        self._logits: dict[tuple[int, ...], np.ndarray] = {}  # prompt and completion so far -> float32 [V]
        self.keeps_logits = keeps_logits and config.vocab_size <= SMALL_VOCABULARY
        self._width = 0  # positions that noise is drawn for; never less than before, so that it compiles once
        self.num_generated_tokens = 0
        self.num_replayed_tokens = 0
        self.generation_flops = 0.0

    def complete(
        self, prompts: Sequence[Sequence[int]], keys: jax.Array, max_new_tokens: Sequence[int]
    ) -> list[list[int]]:
        """The tokens of each prompt's completion, EOS included where the policy wrote it. keys: typed keys [B]."""
        if not self.keeps_logits:
            return self._sampled(prompts, keys, max_new_tokens, [[]] * len(prompts), range(len(prompts)))
        self._width = max(self._width, *max_new_tokens) if len(prompts) else self._width
        noise = np.zeros((0, 0, 0), np.float32)
        found: list[list[int]] = []
        for row, (prompt, limit) in enumerate(zip(prompts, max_new_tokens, strict=True)):
            if row % _ROWS == 0:
                rows = np.minimum(np.arange(row, row + _ROWS), len(prompts) - 1)  # the filler repeats a row
                noise = np.asarray(_noise(chosen_keys(keys, rows), self._width, self._config.vocab_size))
            found.append(self._replayed(tuple(prompt), noise[row % _ROWS], limit))
        self.num_replayed_tokens += sum(map(len, found))
        unfinished = [
            row for row, tokens in enumerate(found) if len(tokens) < max_new_tokens[row] and not self._ended(tokens)
        ]
        for row, more in zip(unfinished, self._sampled(prompts, keys, max_new_tokens, found, unfinished), strict=True):
            found[row] = found[row] + more
        return found

    def _ended(self, tokens: list[int]) -> bool:
        return bool(tokens) and tokens[-1] in stop_tokens(self._config)

    def _replayed(self, prompt: tuple[int, ...], noise: np.ndarray, limit: int) -> list[int]:
        """The tokens of a completion that follow from kept logits. noise: float32 [T, V]."""
        tokens: list[int] = []
        while len(tokens) < limit and not self._ended(tokens):
            logits = self._logits.get((*prompt, *tokens))
            if logits is None:
                break
            tokens.append(int(np.argmax(logits / self._temperature + noise[len(tokens)])))
        return tokens

    def _sampled(
        self,
        prompts: Sequence[Sequence[int]],
        keys: jax.Array,
        max_new_tokens: Sequence[int],
        replayed: Sequence[list[int]],
        rows: Sequence[int],
    ) -> list[list[int]]:
        """What follows the replayed tokens of some rows; its logits are kept for a small vocabulary."""
        if not rows:
            return []
        starts = [[*prompts[row], *replayed[row]] for row in rows]
        written = [len(replayed[row]) for row in rows]
        limits = [max_new_tokens[row] - done for row, done in zip(rows, written, strict=True)]
        keeping = {"positions": written, "keep_logits": True} if self.keeps_logits else {}
        chosen = chosen_keys(keys, np.array(rows))
        sampled = self._sampler(starts, chosen, limits, float(self._temperature), **keeping)
        lengths = sampled.lengths.tolist()
        if sampled.logits is not None:
            self._keep(starts, sampled.completions, sampled.logits)
        self.num_generated_tokens += sum(lengths)
        self.generation_flops += sampling_flops(self._config, map(len, starts), lengths)
        return sampled.completions

    def _keep(self, starts: list[list[int]], completions: list[list[int]], drawn_from: np.ndarray) -> None:
        """Keep the logits from which each token was drawn. drawn_from: float32 [B, T, V]."""
        for start, tokens, logits in zip(starts, completions, drawn_from, strict=True):
            for position in range(len(tokens)):
                self._logits.setdefault((*start, *tokens[:position]), logits[position].copy())  # not the whole batch's


@partial(jax.jit, static_argnames=("num_positions", "vocabulary"))
def _noise(keys: jax.Array, num_positions: int, vocabulary: int) -> jax.Array:
    """float32 [B, T, V]: what `sample` adds to the scaled logits of each row at each position."""
    batch = keys.shape[0]
    positions = jnp.arange(num_positions)
    return jax.vmap(lambda position: gumbel_noise(keys, jnp.full(batch, position), vocabulary), out_axes=1)(positions)
