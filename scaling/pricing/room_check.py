"""Whether prompts and completions fit into the context that a checkpoint was made for, as far as a plan can know.

In: the stages of a plan. Out: nothing, or a ConfigError that names the key, its value and the cure. Prompt
lengths depend on the checkpoint's tokenizer: a limit is rejected here if no prompt, however short, leaves room for it;
`scaling.model.sampling.sample` rejects the rest before it samples.
"""

from collections.abc import Iterable
from pathlib import Path

from scaling.config.errors import ConfigError
from scaling.kinds import kind_of
from scaling.pricing.lengths import certain_limit, longest
from scaling.stage import Stage

SHORTEST_PROMPT = 1  # token


def check_room(stages: Iterable[Stage], path: Path) -> None:
    """Reject limits beyond a checkpoint's context. path: of the sweep, for messages."""
    for stage in stages:
        limit, samples = certain_limit(stage), kind_of(stage.kind).samples
        if limit is None or samples is None:
            continue
        room = longest(stage)[0].max_positions
        if room is not None and SHORTEST_PROMPT + limit > room:
            raise ConfigError(
                f"{path}: {samples.sweep_key}.max_new_tokens allows completions of {limit} tokens, but the policy was"
                f" made for max_positions = {room}, prompt and completion together; set it to less than {room}, with"
                " room for the prompts."
            )
