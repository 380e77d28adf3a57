"""The section `policy`: an embedded policy or a checkpoint, not both, for every algorithm."""

import pytest
from pydantic import ValidationError

from scaling import recipes
from scaling.config import ALGORITHMS, Cell
from scaling.policy_config import Policy
from scaling.sweep_file import load_sweep

SWEEP = """
question: Does it load?
policy: {hf: Qwen/Qwen2.5-0.5B, revision: v1}
grid: {algorithm: [sft, rft, dpo], data_size: [8]}
seeds: [0]
"""


def test_a_checkpoint_has_no_rung_of_the_ladder():
    for wrong in ({"size": "m"}, {"base": "random"}):
        with pytest.raises(ValidationError, match="leave size and base out"):
            Policy.model_validate({"hf": "Qwen/Qwen2.5-0.5B", **wrong})
    with pytest.raises(ValidationError, match="revision is 'v1' without hf"):
        Policy.model_validate({"revision": "v1"})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_cell_with_a_checkpoint_survives_its_own_dump(algorithm):
    cell = Cell.model_validate({"algorithm": algorithm, "policy": {"hf": "Qwen/Qwen2.5-0.5B"}})
    assert Cell.model_validate(cell.model_dump()) == cell


def test_a_sweep_names_its_checkpoint_and_the_artifact_is_named_after_it(tmp_path):
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    sweep = load_sweep(tmp_path / "sweep.yaml")
    cell = Cell.model_validate(sweep.fixed)
    assert recipes.base_policy(cell).config == {"policy": {"hf": "Qwen/Qwen2.5-0.5B", "revision": "v1"}}
    assert recipes.base_policy(cell).name.startswith("pretrain/Qwen2.5-0.5B-")


def test_embedded_policies_keep_their_identity():
    """The digest of the quickstart's base policy, which is shipped with the repository."""
    problems = {"family": "modular_sum", "modulus": 59, "operands": 4}
    assert recipes.base_policy(Cell.model_validate({"problems": problems})).config["policy"] == {
        "size": "xs",
        "base": "pretrained",
    }
