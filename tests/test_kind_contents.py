"""Version bumps are honest: a kind that computes something else under its recorded version fails here.

What to do when it does: where the change is meant, bump the kind's version in scaling/kinds.py and run
`python tests/kind_contents.py`, in the same commit; where it is not, it is a bug.
"""

import copy
import json

import pytest

pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")

from kind_contents import FILE, changed, computed, environment, same

from scaling.kinds import BUILT_IN


@pytest.fixture
def recorded():
    return json.loads(FILE.read_text())


@pytest.mark.slow
def test_no_kind_computes_something_else_under_the_same_version(recorded, tmp_path):
    if recorded["environment"] != environment():
        pytest.skip(f"recorded with {recorded['environment']}; here is {environment()}")
    found = computed(tmp_path)
    assert changed(found, recorded["kinds"]) == [], "bump the version, then: python tests/kind_contents.py"
    assert found.keys() == recorded["kinds"].keys()


def test_every_kind_is_recorded_under_its_version(recorded):
    versions = {kind: entry["version"] for kind, entry in recorded["kinds"].items()}
    assert versions == {name: kind.version for name, kind in BUILT_IN.items()}, "run python tests/kind_contents.py"


def test_a_changed_kind_is_named_and_those_that_read_it_are_not(recorded):
    kinds = recorded["kinds"]
    assert changed(kinds, kinds) == []
    other = copy.deepcopy(kinds)
    for kind in ("sft", "rollouts"):  # rollouts come from the policy that sft trains
        for contents in other[kind]["contents"].values():
            contents["numbers"]["another"] = 1.0
    assert changed(other, kinds) == ["sft"]
    other["sft"]["version"] += 1
    assert changed(other, kinds) == []


def test_floats_agree_to_a_thousandth_and_all_else_exactly():
    assert same({"loss": [3, 1.0, 0.5]}, {"loss": [3, 1.0005, 0.5]})
    assert not same({"loss": [3, 1.0, 0.5]}, {"loss": [3, 1.01, 0.5]})
    assert not same({"text": "ab"}, {"text": "ac"}) and not same({"a": 1}, {"a": 1, "b": 1}) and not same(1, 2)
