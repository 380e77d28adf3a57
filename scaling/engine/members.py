"""Several processes as one: how the members of a group find each other and become one set of jax devices.

In: the address of the first member, and which member this is. Out: nothing; from then on `jax.devices()` has those of
all members, and a mesh is over all of them (`jax.distributed`; gloo between CPUs, NCCL between GPUs).
"""

import re
import socket
from collections.abc import Iterator

HEARTBEAT_SECONDS = 60  # after which jax ends members whose coordinator or peer is gone
JOIN_SECONDS = 120  # for all members to join
# How errors of jax, gloo, NCCL, orbax and the coordination service describe a lost member.
LOST_MEMBER = re.compile(
    r"\bgloo\b|\bnccl|connection (closed|reset|refused)|broken pipe|socket closed|coordination service"
    r"|heartbeat|barrier|by peer|UNAVAILABLE:|DEADLINE_EXCEEDED:",
    re.IGNORECASE,
)


def free_address() -> str:
    """A free host:port of this machine that the other members can reach."""
    import ray

    host = ray.util.get_node_ip_address()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def join(coordinator: str, index: int, size: int) -> None:
    """Join; returns when all members have. Before the first use of jax's devices in this process."""
    import jax

    jax.distributed.initialize(
        coordinator_address=coordinator,
        num_processes=size,
        process_id=index,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        initialization_timeout=JOIN_SECONDS,
    )


def loss_of_a_member(error: BaseException) -> str:
    """The text that shows that a stage failed because another process of its group is gone; empty if none does."""
    return next((str(cause) for cause in _chain(error) if LOST_MEMBER.search(str(cause))), "")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
