"""A study on an imported policy: a sweep's stages from the checkpoint to the outcomes, with the checkpoint's tokens."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from data.problems import modular_sum
from data.records import read_jsonl
from data.tokens.tokenizer import tokenizer_of
from scaling.config.algorithms import algorithm_names
from scaling.config.errors import ConfigError
from scaling.config.sweep import Cell
from scaling.kinds import kind_of, loaded
from scaling.model.flops import sampling_flops
from scaling.model.policy import load_policy
from scaling.planning import recipes
from scaling.pretrained.hub import content_digest
from scaling.pricing.costs import cost
from scaling.stage import in_order

pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")

from random_checkpoint import SHAPE, save_random

PROBLEMS = {"family": "modular_sum", "modulus": 11, "operands": 3, "num_validation": 4, "num_test": 6}
OPTIMIZER = {"learning_rate": 3e-3, "epochs": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_random(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def cell(checkpoint):
    return Cell.of(
        **{
            "algorithm": "rft",
            "data_size": 8,
            "problems": PROBLEMS,
            "policy": {"hf": str(checkpoint)},
            "sft": {**OPTIMIZER, "epochs": 2},
            "rft": OPTIMIZER,
            "rollouts": {"samples_per_problem": 2},
            "evaluation": {"samples_per_problem": 0},
        }
    )


def stages_of(cell, algorithm):
    return in_order([recipes.evaluation(cell.model_copy(update={"algorithm": algorithm}), 0)])


def test_every_stage_that_reads_or_writes_tokens_has_the_imported_tokenizer(cell):
    for algorithm in set(algorithm_names()) - {"distill"}:  # its oracle reads no checkpoint's tokens
        for stage in stages_of(cell, algorithm):
            with_tokens = stage.kind not in ("pretrain", "problems", "teacher", "dpo", "kto")  # these two read tokens
            assert ("tokenizer" in stage.inputs) == with_tokens, stage.kind


def test_an_embedded_policy_needs_no_tokenizer_among_its_inputs(cell):
    embedded = cell.model_copy(update={"policy": type(cell.policy)()})
    for algorithm in algorithm_names():
        assert not any("tokenizer" in stage.inputs for stage in stages_of(embedded, algorithm))


def test_the_import_depends_on_the_checkpoints_content_and_its_revision_alone(cell, checkpoint):
    imported = recipes.base_policy(cell)
    stated = {"hf": content_digest(Path(cell.policy.hf)), "revision": None, "prompt_template": None}
    assert imported.config == {"policy": stated} and imported.execution == {"checkpoint": cell.policy.hf}
    other = cell.model_copy(update={"policy": cell.policy.model_copy(update={"revision": "v2"})})
    assert recipes.base_policy(other).digest != imported.digest
    assert recipes.base_policy(cell.model_copy(update={"data_size": 4})).digest == imported.digest


def test_costs_are_those_of_the_checkpoints_shape(cell):
    costs = {stage.kind: cost(stage) for algorithm in ("rft", "dpo") for stage in stages_of(cell, algorithm)}
    assert costs["pretrain"].flops == 0
    prompt, completion = 3 * 4 + 1, 3 * 13 + 1  # modular_sum with 3 operands: 4 and 13 words, 3 tokens each
    assert costs["rollouts"].generation_flops == 8 * 2 * sampling_flops(SHAPE, [prompt], [completion])
    assert all(costs[kind].training_flops > 0 for kind in ("sft", "rft", "dpo"))
    assert cost(recipes.base_evaluation(cell)).generation_flops == 6 * sampling_flops(SHAPE, [prompt], [completion])


def test_a_family_without_words_counts_tokens(cell, monkeypatch):
    monkeypatch.setattr(modular_sum, "vocabulary", lambda config: ())
    expected = 8 * 2 * sampling_flops(SHAPE, [4 + 1], [13 + 1])
    assert cost(recipes.rollouts(cell, 0)).generation_flops == expected


def test_a_checkpoint_that_cannot_be_read_is_a_mistake_in_the_sweep(cell, checkpoint):
    elsewhere = cell.model_copy(update={"policy": type(cell.policy)(hf="no/such/folder")})
    with pytest.raises(ConfigError, match=r"policy.hf: 'no/such/folder' is neither a folder nor a .gguf file"):
        cost(recipes.sft_policy(elsewhere, 0))


def test_the_stages_run_from_the_checkpoint_to_the_outcomes(cell, tmp_path):
    folders, numbers = {}, {}
    for stage in stages_of(cell, "rft"):
        folders[stage.digest] = tmp_path / stage.kind
        folders[stage.digest].mkdir()
        inputs = {name: folders[given.digest] for name, given in stage.inputs.items()}
        run = loaded(kind_of(stage.kind).run)
        numbers[stage.kind] = run({**stage.config, **stage.execution}, inputs, folders[stage.digest])

    trained = load_policy(tmp_path / "rft")
    assert trained.config == replace(SHAPE, stop_tokens=(2,))
    tokenizer = tokenizer_of(cell.problems, {"tokenizer": tmp_path / "pretrain"})
    rows = read_jsonl(tmp_path / "teacher" / "synthetic.jsonl")
    learned = sum(len(tokenizer.encode_completion(row["completion"])) for row in rows)
    assert numbers["sft"]["num_learned_tokens"] == learned
    for row in rows:
        assert tokenizer.decode(tokenizer.encode_completion(row["completion"])) == row["completion"]
        assert len(tokenizer.encode(row["completion"])) <= tokenizer.room_for(13, ("0", "10", "=", ";", "#"))
    rollouts = pd.read_parquet(tmp_path / "rollouts" / "rollouts.parquet")
    assert len(rollouts) == 16 and rollouts["tokens"].map(max).max() < SHAPE.vocab_size
    assert len(pd.read_parquet(tmp_path / "evaluation" / "outcomes.parquet")) == 6
