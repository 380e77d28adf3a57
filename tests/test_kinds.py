"""kinds: every function that a record names exists, and what nobody registered is an error everywhere."""

from dataclasses import replace

import pytest

from scaling.engine.schedule import resource_class
from scaling.kinds import BUILT_IN, Kind, kind_of, loaded, register_kind
from scaling.pricing.costs import cost
from scaling.stage import Stage


@pytest.mark.parametrize("kind", BUILT_IN.values(), ids=BUILT_IN)
def test_every_function_of_a_record_exists(kind):
    for function in (kind.run, kind.work, kind.memory, kind.problems, kind.rows):
        assert function is None or callable(loaded(function))


def test_a_kind_without_a_policy_has_neither_memory_nor_samples():
    for kind in BUILT_IN.values():
        assert (kind.memory is not None) == (kind.resource_class != "host")
        assert kind.samples is None or kind.memory is not None


def test_an_unknown_kind_has_no_digest_no_class_and_no_cost():
    stage = Stage("nobodys", {})
    for question in (lambda: stage.digest, lambda: resource_class(stage), lambda: cost(stage)):
        with pytest.raises(ValueError, match="there is no stage kind 'nobodys'"):
            question()


def test_a_registered_name_is_not_taken_twice():
    mine = Kind("kinds_test", 1, "host", "a:b", work="scaling.pricing.work:nothing")
    assert register_kind(mine) == register_kind(mine) == kind_of("kinds_test")
    with pytest.raises(ValueError, match="already registered"):
        register_kind(replace(mine, version=2))
    with pytest.raises(ValueError, match="built in"):
        register_kind(replace(mine, name="sft"))


def test_a_function_is_named_as_module_and_function():
    assert loaded("json:dumps")([1]) == "[1]"
    with pytest.raises(ValueError, match="is not the name of a function"):
        loaded("json.dumps")
