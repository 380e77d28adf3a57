"""The sampler of a stage: this process, or a user's completion server (`sampler` in a sweep file).

In: a stage's config, inputs and working directory. Out: a sampler with one interface: `sample`, as
`scaling.model.sampling.sample` without the policy, `replay` for adaptive step values, the policy's `shape`, and
`numbers` for the record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax

from data.tokens.hf_tokenizer import HfTokenizer
from data.tokens.tokenizer import Tokenizer
from scaling.config.sampling import Sampler as Settings
from scaling.config.section import parse
from scaling.model.policy import Policy, policy_of
from scaling.model.replay import Replay
from scaling.model.sampling import Sampled, sample
from scaling.model.sizes import ModelConfig


class Replayed(Protocol):
    """Completions in several calls, and their cost."""

    num_generated_tokens: int
    num_replayed_tokens: int
    generation_flops: float
    keeps_logits: bool  # or has no need to

    def complete(
        self, prompts: Sequence[Sequence[int]], keys: jax.Array, max_new_tokens: Sequence[int]
    ) -> list[list[int]]: ...


class Sampler(Protocol):
    """One policy that can be sampled."""

    @property
    def shape(self) -> ModelConfig: ...

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        keys: jax.Array,
        max_new_tokens: Sequence[int],
        temperature: float,
        top_p: float = 1.0,
    ) -> Sampled: ...

    def replay(self, temperature: float) -> Replayed: ...

    def numbers(self) -> dict[str, float]: ...


@dataclass(frozen=True)
class LocalSampler:
    """This process."""

    policy: Policy

    @property
    def shape(self) -> ModelConfig:
        return self.policy.config

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        keys: jax.Array,
        max_new_tokens: Sequence[int],
        temperature: float,
        top_p: float = 1.0,
    ) -> Sampled:
        return sample(self.policy.params, self.policy.config, prompts, keys, max_new_tokens, temperature, top_p)

    def replay(self, temperature: float) -> Replayed:
        return Replay(self.policy.params, self.policy.config, temperature)

    def numbers(self) -> dict[str, float]:
        return {}


def sampler_of(
    config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, tokenizer: Tokenizer | HfTokenizer
) -> Sampler:
    """The sampler of the stage's input `policy`: the server in config["server"], or, without one, this process."""
    if "server" not in config:
        return LocalSampler(policy_of(inputs, "policy"))
    from data.sampling.remote_sampler import RemoteSampler  # needs the extra `remote`

    return RemoteSampler(parse(Settings, config["server"]), inputs, out, tokenizer)
