"""The memory settings of this worker, which no stage's config holds: they change no result.

In: the section `memory` of the sweep, from the worker around a stage. Out: the settings that the training loop and the
batches use, defaults included; decoders find the implementation of attention in scaling.model.ambient.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from scaling.config.memory import Memory
from scaling.model.ambient import using_attention

_memory: ContextVar[Memory] = ContextVar("memory", default=Memory())  # noqa: B039 - frozen


def current_memory() -> Memory:
    """The settings in force."""
    return _memory.get()


@contextmanager
def using_memory(memory: Memory) -> Iterator[None]:
    """Put the settings in force inside this context."""
    token = _memory.set(memory)
    try:
        with using_attention(memory.attention):
            yield
    finally:
        _memory.reset(token)
