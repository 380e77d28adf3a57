"""The implementation of attention in force here, which the worker around a stage has chosen; no jax.

In: a name of scaling.model.sizes.ATTENTIONS. Out: the same, where a stage reads or makes a decoder's config. As with
the mesh, no stage's config and no policy on disk holds it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from scaling.model.sizes import EINSUM, ModelConfig

_attention: ContextVar[str] = ContextVar("attention", default=EINSUM)


@contextmanager
def using_attention(name: str) -> Iterator[None]:
    """Put the implementation in force inside this context."""
    token = _attention.set(name)
    try:
        yield
    finally:
        _attention.reset(token)


def as_in_force(config: ModelConfig) -> ModelConfig:
    """The decoder with the implementation in force."""
    return replace(config, attention=_attention.get())
