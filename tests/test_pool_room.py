"""Which worker a stage gets on which nodes, with nodes and workers that are only said to be there."""

import dataclasses

import pytest
from toy_stages import toy

from scaling.engine import pool as engine_pool
from scaling.engine.pool import RayPool
from scaling.engine.run import ClusterLost


class Cluster:
    """Nodes by name with their cores, and the workers that were made and ended."""

    def __init__(self, monkeypatch, **cores):
        self.cores, self.made, self.ended, self.now = cores, [], [], 1000.0
        monkeypatch.setattr(engine_pool, "start", self.start)
        monkeypatch.setattr(engine_pool.ray, "wait", lambda references, **options: ([], list(references)))
        monkeypatch.setattr(engine_pool.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(engine_pool.time, "sleep", lambda seconds: None)

    def start(self, shape, variables, arguments):
        cluster, number = self, len(self.made)
        self.made.append(shape)

        @dataclasses.dataclass
        class Worker:
            places: tuple = (f"place{number}",)
            actors: tuple = ()

            def run(self, stage):
                return (f"call{number} of {stage.config['text']}",)

            def end(self):
                cluster.ended.append(number)

        return Worker()

    # What the pool asks of a session
    is_lost = False

    def check(self):
        pass

    def nodes(self):
        return [{"NodeID": name, "Resources": {"CPU": float(cores)}} for name, cores in self.cores.items()]


@pytest.fixture
def pool_on(monkeypatch, tmp_path):
    def make(resources, **cores):
        cluster = Cluster(monkeypatch, **cores)
        pool = RayPool(tmp_path / "store", None, resources)
        pool._session = cluster
        return pool, cluster

    return make


def finish(pool, handle):
    """The stage of a handle is done, and its worker idle."""
    (worker,) = [one for one in pool._workers if one.stage == handle.stage]
    worker.is_alive, worker.stage, worker.idle_since = True, None, engine_pool.time.monotonic()
    del pool._calls[handle]


HOST_AND_TRAIN = {"host": {"cpu": 1}, "train": {"cpu": 2}}


def test_room_is_on_one_node_and_only_idle_workers_that_are_in_the_way_there_are_ended(pool_on):
    pool, cluster = pool_on(HOST_AND_TRAIN, a=2, b=2)
    handles = [pool.submit(toy(str(index))) for index in range(3)]  # two on a, one on b
    large = toy("large", kind="sft")
    assert not pool.has_room(large)  # one core is free, and no node has two
    finish(pool, handles[0])
    assert not pool.has_room(large)  # two cores are free or idle, one on each node
    finish(pool, handles[2])
    assert pool.submit(large) is not None
    assert cluster.ended == [2] and len(cluster.made) == 4


def test_the_cores_of_a_dead_node_are_no_room_and_its_idle_worker_is_forgotten(pool_on):
    pool, cluster = pool_on(HOST_AND_TRAIN, a=1, b=1)
    first, second = pool.submit(toy("0")), pool.submit(toy("1"))
    finish(pool, second)  # on b
    del cluster.cores["b"]
    cluster.now += 2
    assert not pool.has_room(toy("2"))
    assert cluster.ended == [1]
    finish(pool, first)
    assert pool.has_room(toy("2"))


def test_an_idle_worker_takes_the_stage_of_one_that_does_not_come_to_be(pool_on):
    pool, cluster = pool_on({"host": {"cpu": 1}}, a=1, b=1)
    first, second = pool.submit(toy("0")), pool.submit(toy("1"))
    finish(pool, first)
    assert pool.wait([second], 0) == [] and not cluster.ended
    cluster.now += 11
    assert pool.wait([second], 0) == []
    assert cluster.ended == [1]
    assert pool._calls[second][0] == ["call0 of 1"]


def test_without_an_idle_worker_of_its_shape_the_stage_goes_back_and_others_make_room_each_time_later(pool_on):
    pool, cluster = pool_on(HOST_AND_TRAIN, a=2, b=2)
    finish(pool, pool.submit(toy("0")))
    seconds = []
    for _ in range(3):
        handle = pool.submit(toy("large", kind="sft"))
        submitted = cluster.now
        while not (found := pool.wait([handle], 0)):
            cluster.now += 1
        ((_, outcome),) = found
        assert outcome.cause == "start"
        seconds.append(round(cluster.now - submitted))
    assert seconds == [31, 61, 121]
    assert 0 in cluster.ended and not pool._workers


def test_a_busy_worker_on_a_dead_node_is_lost_even_if_ray_says_nothing(pool_on):
    pool, cluster = pool_on({"host": {"cpu": 1}}, a=1, b=1)
    handles = [pool.submit(toy(str(index))) for index in range(2)]
    for worker in pool._workers:
        worker.is_alive = True
    del cluster.cores["b"]
    cluster.now += 2
    ((handle, outcome),) = pool.wait(handles, 0)
    assert handle == handles[1] and outcome.cause == "death" and "node has died" in outcome.reason


def test_a_stage_that_no_node_left_has_room_for_ends_the_sweep_after_a_while(pool_on):
    pool, cluster = pool_on(HOST_AND_TRAIN, a=1, b=2)
    large = toy("large", kind="sft")
    assert pool.has_room(large)
    del cluster.cores["b"]
    cluster.now += 2
    assert not pool.has_room(large)
    assert pool.wait([], 0) == []
    cluster.now += 61
    with pytest.raises(ClusterLost, match=r"what resources\.train asks for"):
        pool.wait([], 0)
    cluster.cores["b"] = 2
    cluster.now += 2
    assert pool.wait([], 0) == [] and pool.has_room(large)
