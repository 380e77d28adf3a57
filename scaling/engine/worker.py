"""Run one stage: from its inputs in the store to its committed artifact, or to the record of its failure.

In: a stage and a store. Out: `Done` or `Failed`. The kind names the function (scaling.kinds). `StageWorker` is the
long-lived process around it that keeps jax and what it compiled; it is made a Ray actor in scaling.engine.group.
"""

import contextlib
import json
import logging
import math
import numbers
import os
import re
import shutil
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from scaling.config.memory import Memory
from scaling.copies import copying_to
from scaling.engine.jax_environment import pin, require_accelerator
from scaling.engine.provenance import PROJECT, provenance
from scaling.engine.store import LOG, Store
from scaling.kinds import kind_of, loaded
from scaling.plugins import Plugin, import_plugins
from scaling.sources import sources_digest
from scaling.stage import CHECKPOINTS, PROVENANCE_FILE, Stage, StageError
from scaling.training.memory_settings import using_memory

logger = logging.getLogger(__name__)

Runner = Callable[[Mapping[str, Any], Mapping[str, Path], Path], Mapping[str, float]]

PACKAGES = ("scaling", "algorithms", "data")  # with the code of stages
DEFAULT_MEMORY = Memory()
HEARTBEAT_SECONDS = 60  # after which jax ends members whose coordinator or peer is gone
JOIN_SECONDS = 120  # for all members to join
# How errors of jax, gloo, NCCL, orbax and the coordination service describe a lost member.
LOST_MEMBER = re.compile(
    r"\bgloo\b|\bnccl|connection (closed|reset|refused)|broken pipe|socket closed|coordination service"
    r"|heartbeat|barrier|by peer|UNAVAILABLE:|DEADLINE_EXCEEDED:",
    re.IGNORECASE,
)
NO_RUNNERS: Mapping[str, str | Runner] = MappingProxyType({})


@dataclass(frozen=True)
class Done:
    """The stage's artifact is committed."""

    record: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """The stage raised; its traceback and log are at `failure["traceback"]` and `failure["log"]`."""

    failure: dict[str, Any]  # as Store.failure gives it


@dataclass(frozen=True)
class Lost:
    """The worker died without an outcome, or its error is not the stage's fault."""

    reason: str
    # member: another one of its group is gone. memory: Ray ended it. start: it never started.
    cause: Literal["death", "member", "memory", "start"] = "death"


@dataclass(frozen=True)
class Elsewhere:
    """Another process is in the stage's work directory, or has just committed the stage: it was not started here."""


@dataclass(frozen=True)
class Spoiled:
    """Inputs of the stage are not whole in the store, so it was not started, or what it computed does not count."""

    inputs: tuple[Stage, ...]
    damaged: bool  # True: they differ from those committed and were moved aside; False: they are missing


Outcome = Done | Failed | Lost | Elsewhere | Spoiled
NOT_JOINED = Lost("the members of its group did not find each other", "member")


@dataclass(eq=False)
class StageWorker:
    """A process that runs one stage after another."""

    root: str
    shipped: str | None
    runners: Mapping[str, str | Runner]
    checkout: Mapping[str, object]  # commit and dirty flag of the driver's code
    cores: tuple[int, ...]  # of this machine to stay on; empty for any
    memory: Memory = DEFAULT_MEMORY
    mesh: Mapping[str, int] = field(default_factory=dict)  # axes of the mesh that stages run on; empty for one device
    plugins: Sequence[Plugin] = ()  # what the driver imported
    _size: int = 1  # of the group
    _has_joined: bool = False

    def __post_init__(self) -> None:
        pin(os.environ)  # on other nodes the environment comes from whoever started Ray there
        if self.cores:
            os.sched_setaffinity(0, self.cores)  # before jax sizes its thread pools
        import_plugins(self.plugins)
        self._store = Store(self.root, self.shipped)

    def node(self) -> str:
        """The id of the node that this process is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def run(self, stage: Stage) -> Outcome:
        """Run one stage."""
        if self._size > 1 and not self._has_joined:
            return NOT_JOINED
        return run_stage(
            stage, self._store, self.runners, self.checkout, self.memory, self.mesh, in_group=self._size > 1
        )

    def address(self) -> str:
        """A free host:port of this machine, at which other members of a group find this process, the first of them."""
        import ray

        host = ray.util.get_node_ip_address()
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.bind((host, 0))
            port = probe.getsockname()[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def join(self, coordinator: str, index: int, size: int) -> None:
        """Become one of the processes whose devices make up the mesh; before jax is used."""
        self._size = size
        join(coordinator, index, size)
        self._has_joined = True

    def follow(self, stage: Stage) -> Outcome:
        """Compute along with the process that runs the stage, without keeping results."""
        if not self._has_joined:
            return NOT_JOINED
        return follow_stage(stage, self._store, self.runners, self.memory, self.mesh)


def join(coordinator: str, index: int, size: int) -> None:
    """Join; returns when all members have. From then on `jax.devices()` has those of all (gloo on CPUs, NCCL on GPUs).

    Before the first use of jax's devices in this process.
    """
    import jax

    jax.distributed.initialize(
        coordinator_address=coordinator,
        num_processes=size,
        process_id=index,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        initialization_timeout=JOIN_SECONDS,
    )


def run_stage(
    stage: Stage,
    store: Store,
    runners: Mapping[str, str | Runner] = NO_RUNNERS,
    checkout: Mapping[str, object] = MappingProxyType({}),
    memory: Memory = DEFAULT_MEMORY,
    mesh: Mapping[str, int] = MappingProxyType({}),
    in_group: bool = False,
) -> Outcome:
    """Run a stage in this process and commit its artifact, or keep its traceback and log as its failure.

    runners: functions in place of the kinds' own, for tests.
    checkout: commit and dirty flag to record in place of those found here, for code that was sent to another node.
    memory: settings around the stage; they change no result, so its config lacks them.
    in_group: whether other processes compute along; if one of them is gone, the stage has not failed.
    """
    log = ""
    try:
        try:
            work_dir = store.work_dir(stage)
        except TimeoutError:
            return Elsewhere()
        try:
            store.refresh()
            if store.find(stage) is not None:  # the previous owner of the directory has finished the stage
                return Elsewhere()
            inputs = _inputs(stage, store)
            if isinstance(inputs, Spoiled):
                return inputs
            copying = copying_to(store.copies_at(stage))
            with _logging_to(work_dir / LOG), using_memory(memory), on_devices(mesh), copying:
                record = _run(stage, inputs, runners, work_dir)
            # They may be damaged since they were checked, perhaps before they were read. Unchanged files are not read.
            present = [parent for parent in stage.inputs.values() if store.find(parent) is not None]
            if changed := tuple(parent for parent in present if store.checked(parent) is None):
                shutil.rmtree(work_dir / CHECKPOINTS, ignore_errors=True)
                store.drop_copies(stage)
                return Spoiled(changed, damaged=True)
            own = work_dir / PROVENANCE_FILE
            stated = json.loads(own.read_text(encoding="utf-8")) if own.exists() else {}
            changed_memory = memory.model_dump(exclude_defaults=True)  # which may have moved a last digit
            settings = {"memory": changed_memory} if changed_memory else {}
            record["provenance"] = {**stated, **provenance(), **checkout, **settings}
            return Done(store.commit(stage, work_dir, record))
        finally:
            log = store.partial_log(stage)
            store.leave(stage)
    except (Exception, SystemExit) as error:  # the worker's edge: what a stage raises becomes the record of a failure
        if in_group and (sign := loss_of_a_member(error)):
            return Lost(f"a member of its group is gone: {sign}", "member")
        return Failed(store.fail(stage, traceback.format_exc(), log))


def follow_stage(
    stage: Stage, store: Store, runners: Mapping[str, str | Runner], memory: Memory, mesh: Mapping[str, int]
) -> Outcome:
    """The same stage in another process of a group: it computes its share; its files are discarded.

    Checkpoints are written together, so they are those of the work directory that the first process has; with a store
    in a bucket each process writes and copies its parts.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="scaling-member-") as scratch:
            out = Path(scratch)
            if store.is_local:
                (out / CHECKPOINTS).symlink_to(store.partial(stage) / CHECKPOINTS)
            inputs = _inputs(stage, store)
            if isinstance(inputs, Spoiled):
                return inputs
            with using_memory(memory), on_devices(mesh), copying_to(store.copies_at(stage)):
                return Done(_run(stage, inputs, runners, out))
    except (Exception, SystemExit) as error:  # the worker's edge, as above
        if sign := loss_of_a_member(error):
            return Lost(f"a member of its group is gone: {sign}", "member")
        return Failed(store.fail(stage, traceback.format_exc(), ""))


def loss_of_a_member(error: BaseException) -> str:
    """The text that shows that a stage failed because another process of its group is gone; empty if none does."""
    cause: BaseException | None = error
    while cause is not None and not LOST_MEMBER.search(str(cause)):
        cause = cause.__cause__ or cause.__context__
    return "" if cause is None else str(cause)


def _inputs(stage: Stage, store: Store) -> dict[str, Path] | Spoiled:
    """The stage's inputs as local folders, by name."""
    absent = tuple(parent for parent in stage.inputs.values() if store.find(parent) is None)
    if absent:
        return Spoiled(absent, damaged=False)
    found = {name: store.checked(parent) for name, parent in stage.inputs.items()}
    spoiled = tuple(parent for name, parent in stage.inputs.items() if found[name] is None)
    return Spoiled(spoiled, damaged=True) if spoiled else {name: path for name, path in found.items() if path}


def on_devices(mesh: Mapping[str, int]) -> contextlib.AbstractContextManager[None]:
    """The mesh of scaling.model.sharding inside this context; for one device nothing, and no jax."""
    if math.prod(mesh.values()) == 1:
        return contextlib.nullcontext()
    from scaling.model.sharding import on_mesh

    return on_mesh(mesh)


def _run(
    stage: Stage, inputs: Mapping[str, Path], runners: Mapping[str, str | Runner], work_dir: Path
) -> dict[str, Any]:
    if stage.kind not in runners:  # functions that tests put in a kind's place need none
        require_accelerator(os.environ)
    runner = _runner(stage, runners)
    sources_of(stage)  # as they are when they are loaded
    start = time.perf_counter()
    try:
        returned = runner({**stage.config, **stage.execution}, inputs, work_dir)
    except (Exception, SystemExit):
        logger.exception("%s failed.", stage.name)
        raise
    record = {
        "kind": stage.kind,
        "version": kind_of(stage.kind).version,
        "digest": stage.digest,
        "slug": stage.slug,
        "config": dict(stage.config),
        "inputs": {name: parent.digest for name, parent in stage.inputs.items()},
        "numbers": _finite(stage, returned),
        "wall_seconds": time.perf_counter() - start,
        "committed_at": time.time(),
    }
    sources = sources_of(stage)
    record |= {"sources": sources} if sources else {}
    return record | ({"seed": stage.config["seed"]} if "seed" in stage.config else {})


def sources_of(stage: Stage) -> str | None:
    """Today's digests of a stage's code: of its kind's module in this project, and of its plug-ins."""
    run = kind_of(stage.kind).run
    own = sources_digest(run.partition(":")[0], PROJECT, PACKAGES) if isinstance(run, str) else None
    return "+".join(filter(None, (own, *stage.plugins))) or None


def _runner(stage: Stage, runners: Mapping[str, str | Runner]) -> Runner:
    """The kind's function, or the one in its place."""
    return loaded(runners[stage.kind] if stage.kind in runners else kind_of(stage.kind).run)


def _finite(stage: Stage, returned: object) -> dict[str, float]:
    """The stage's numbers as plain ints and finite floats."""
    if not isinstance(returned, Mapping):
        raise StageError(stage.name, f"returned a {type(returned).__name__}; expected its numbers by name.")
    plain: dict[str, float] = {}
    for name, value in returned.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise StageError(stage.name, f"number {name!r} is a {type(value).__name__}; expected an int or a float.")
        if not math.isfinite(value):
            raise StageError(
                stage.name, f"number {name!r} is {value}; expected a finite one. Leave out missing numbers."
            )
        plain[name] = int(value) if isinstance(value, numbers.Integral) else float(value)
    return plain


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts off, without a message for every line: the stage's own files will show it."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the line."""


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Also write warnings, and our own packages' log from INFO on, to a file."""
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.setLevel(logging.INFO)
    handler.addFilter(lambda entry: entry.levelno >= logging.WARNING or entry.name.partition(".")[0] in PACKAGES)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
