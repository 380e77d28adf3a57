"""Workers for one stage: a single Ray actor, or a group of them in one placement group, one a host.

In: the shape of a worker, and what its process is made with. Out: `Group`, to which stages are given. The members of a
group reserve their resources together or not at all, join into one jax process group once, and keep it, with their
compiled functions, for all stages. The first member runs a stage, the others compute along. When one fails or dies, the
rest would wait for it in a collective forever, or fail there. So the whole group is ended; the engine starts it again,
and training continues at its checkpoint.

Why not `ray.train`'s JaxTrainer (Ray 2.60, alpha): it starts fresh processes for each run, so every stage of a sweep
would import and compile again; its controller, retries and result folders duplicate the engine's leases, losses and
store; and it sets CUDA_VISIBLE_DEVICES to 0..n-1 regardless of the GPUs that Ray has assigned, so two groups on a node
would share them. Slices of TPU pods by topology, which it adds, can be requested as a custom resource.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import ray
from ray.actor import ActorHandle
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from scaling.engine.placement import Shape
from scaling.engine.worker import Outcome, StageWorker
from scaling.stage import Stage


@dataclass(eq=False)
class Group:
    """The actors that run one stage together; usually one."""

    actors: tuple[ActorHandle[StageWorker], ...]
    placement: PlacementGroup | None
    places: tuple[ray.ObjectRef[str], ...]  # of each member the id of its node, once it is alive

    def run(self, stage: Stage) -> tuple[ray.ObjectRef[Outcome], ...]:
        """Start a stage on all members; the first reference is that of the outcome."""
        first, *others = self.actors
        return (first.run.remote(stage), *(actor.follow.remote(stage) for actor in others))

    def end(self) -> None:
        """End all members at once and give their resources back."""
        for actor in self.actors:
            ray.kill(actor)
        if self.placement is not None:
            remove_placement_group(self.placement)


def start(shape: Shape, variables: Mapping[str, str], arguments: tuple[object, ...]) -> Group:
    """Make the members; they wait in Ray's queue until there is room for all. arguments: of each StageWorker."""
    options = {**shape.options(), "max_restarts": 0, "runtime_env": {"env_vars": dict(variables)}}
    if shape.hosts == 1:
        actor = _actor(options, arguments)
        return Group((actor,), None, (actor.node.remote(),))
    # PACK: as few nodes as possible, for the fastest links; a member that needs a whole node gets one.
    placement = placement_group([dict(shape.amounts)] * shape.hosts, strategy="PACK")
    strategies = (PlacementGroupSchedulingStrategy(placement, index) for index in range(shape.hosts))
    actors = tuple(_actor({**options, "scheduling_strategy": strategy}, arguments) for strategy in strategies)
    places = tuple(actor.node.remote() for actor in actors)
    address: ray.ObjectRef[str] = actors[0].address.remote()
    for index, actor in enumerate(actors):
        actor.join.remote(address, index, shape.hosts)  # before any later call
    return Group(actors, placement, places)


def _actor(options: Mapping[str, object], arguments: tuple[object, ...]) -> ActorHandle[StageWorker]:
    # Ray types a new actor as a handle or the class, for classes whose methods are marked as remote.
    return ray.remote(StageWorker).options(**options).remote(*arguments)  # type: ignore[return-value]
