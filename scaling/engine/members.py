"""Several processes as one: how the members of a group find each other and become one set of jax devices.

In: the address of the first member, and which member this is. Out: nothing; from then on `jax.devices()` has those of
all members, and a mesh is over all of them (`jax.distributed`; gloo between CPUs, NCCL between GPUs).
"""

import socket

HEARTBEAT_SECONDS = 60  # after which jax ends members whose coordinator or peer is gone, if nobody else has


def free_address() -> str:
    """host:port of this machine that the other members can reach and nobody listens on."""
    import ray

    host = ray.util.get_node_ip_address()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def join(coordinator: str, index: int, size: int) -> None:
    """Join; returns when all are there. Before the first use of jax's devices in this process."""
    import jax

    jax.distributed.initialize(
        coordinator_address=coordinator,
        num_processes=size,
        process_id=index,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )
