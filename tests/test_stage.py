"""Identity: what changes a stage's digest and what does not."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling import stage as stage_module
from scaling.kinds import kind_of
from scaling.stage import Stage, canonical_json, in_order

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON))
def test_key_order_does_not_change_the_digest(config):
    reordered = dict(reversed(list(config.items())))
    assert Stage("sft", config).digest == Stage("sft", reordered).digest


@given(JSON)
def test_canonical_json_round_trips(value):
    assert json.loads(canonical_json(value)) == value


def test_slug_and_execution_are_no_identity_but_kind_config_and_inputs_are():
    parent = Stage("teacher", {"seed": 0})
    base = Stage("sft", {"epochs": 5}, {"synthetic": parent}, slug="a")
    assert base.digest == Stage("sft", {"epochs": 5}, {"synthetic": parent}, slug="b").digest
    assert base.digest == Stage("sft", {"epochs": 5}, {"synthetic": parent}, execution={"server": "here"}).digest
    others = [
        Stage("rft", {"epochs": 5}, {"synthetic": parent}),
        Stage("sft", {"epochs": 6}, {"synthetic": parent}),
        Stage("sft", {"epochs": 5}, {"base": parent}),
        Stage("sft", {"epochs": 5}, {"synthetic": Stage("teacher", {"seed": 1})}),
    ]
    assert len({stage.digest for stage in [base, *others]}) == 5


def test_a_version_bump_changes_the_digest_and_those_downstream(monkeypatch):
    def digests():
        parent = Stage("teacher", {"seed": 0})
        child = Stage("sft", {}, {"synthetic": parent})
        return parent.digest, child.digest, Stage("problems", {}).digest

    before = digests()
    bumped = replace(kind_of("teacher"), version=99)
    monkeypatch.setattr(stage_module, "kind_of", lambda name: bumped if name == "teacher" else kind_of(name))
    after = digests()
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, False, True]


@pytest.mark.parametrize(
    ("config", "error"), [({"a": float("nan")}, "nan"), ({"a": {1, 2}}, "a set"), ({1: 2}, "key 1")]
)
def test_what_has_no_canonical_form_raises(config, error):
    with pytest.raises((TypeError, ValueError), match=error):
        canonical_json(config)


def test_tuples_and_lists_are_the_same_config():
    assert Stage("sft", {"a": (1, 2)}).digest == Stage("sft", {"a": [1, 2]}).digest


def test_in_order_puts_inputs_first_and_shares():
    a = Stage("teacher", {"n": 1})
    b, c = Stage("sft", {"n": 1}, {"x": a}), Stage("sft", {"n": 2}, {"x": a})
    d = Stage("rft", {}, {"x": b, "y": c})
    assert in_order([d, b]) == (a, b, c, d)
