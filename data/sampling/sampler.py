"""The sampler of a stage: this process, or a user's completion server (`sampler` in a sweep file).

In: a stage's config, inputs and working directory. Out: a `Sampler`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data.tokens.tokenizer import AnyTokenizer
from scaling.config.sampling import Sampler as Settings
from scaling.config.section import parse
from scaling.model.policy import Policy, policy_of
from scaling.model.replay import Replay
from scaling.model.sampling import Sampled, sample
from scaling.model.sizes import ModelConfig


@dataclass(frozen=True)
class Sampler:
    """One policy that can be sampled."""

    shape: ModelConfig
    sample: Callable[..., Sampled]  # as scaling.model.sampling.sample, without the policy
    keeps_logits: bool = True  # what Replay may do
    numbers: Callable[[], dict[str, float]] = dict  # more for the stage's record

    def replay(self, temperature: float) -> Replay:
        """Completions in several calls, for adaptive step values."""
        return Replay(self.sample, self.shape, temperature, self.keeps_logits)


def local_sampler(policy: Policy) -> Sampler:
    """This process."""
    return Sampler(policy.config, partial(sample, policy.params, policy.config))


def sampler_of(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path, tokenizer: AnyTokenizer) -> Sampler:
    """The sampler of the stage's input `policy`: the server in config["server"], or, without one, this process."""
    if "server" not in config:
        return local_sampler(policy_of(inputs, "policy"))
    from data.sampling.remote_sampler import RemoteSampler  # needs the extra `remote`

    remote = RemoteSampler(parse(Settings, config["server"]), inputs, out, tokenizer)
    return Sampler(remote.shape, remote.sample, keeps_logits=False, numbers=remote.numbers)
