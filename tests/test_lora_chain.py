"""LoRA through the stages: what artifacts hold, how they are read, and SFT -> RFT from base -> DPO from SFT."""

import json
import math

import jax
import numpy as np
import pandas as pd
import pytest
from stage_config import whole
from tiny_chain import PROBLEMS, SYNTHETIC, by_hand

from algorithms import dpo, pretrain, rft, sft
from data import evaluation, pairs, rollouts
from data.records import write_jsonl
from data.sets import problem_sets
from scaling.config.policy import Lora
from scaling.model.lora import merged
from scaling.model.policy import (
    ADAPTERS_FILE,
    LORA_FILE,
    PARAMS_FILE,
    SHAPE_FILE,
    load_adapters,
    load_policy,
    passed_on,
    policy_of,
    save_policy,
)

LORA = Lora(rank=2, alpha=4.0, targets=("query", "value", "down"))
SETTINGS = {"learning_rate": 1e-2, "epochs": 4, "batch_size": 4}
TRAINING = {"problems": PROBLEMS, "seed": 0, "lora": LORA.model_dump(mode="json")}


class Study:
    """The artifacts of the chain, made by the stages' own functions."""

    def __init__(self, root):
        self.root = root
        self.run(pretrain, "base", {"policy": {"size": "xxs", "base": "random"}, "pretrain": {"seed": 0}})
        (root / "synthetic").mkdir()
        write_jsonl(root / "synthetic" / "synthetic.jsonl", SYNTHETIC)
        self.run(sft, "sft", {**TRAINING, "sft": SETTINGS}, base="base", synthetic="synthetic")
        wrong = SYNTHETIC[0]["completion"].replace("# 6", "# 7")
        self.folders = by_hand(root / "by_hand", {0: [SYNTHETIC[0]["completion"], wrong]})
        positives = {"problems": PROBLEMS, "seed": 0, "positives": {"max_positives": 2, "keep": "random"}}
        self.run(rft.select_positives, "positives", positives, **self.folders)
        config = {**TRAINING, "rft": SETTINGS}
        self.run(rft, "rft", config, start="base", synthetic="synthetic", positives="positives", base="base")
        pairing = {"problems": PROBLEMS, "seed": 0, "pairs": {"pairing": "random", "pairs_per_problem": 1}}
        self.run(pairs, "pairs", pairing, **self.folders)
        self.run(dpo, "dpo", {**TRAINING, "dpo": SETTINGS}, reference="sft", pairs="pairs", base="base")

    def run(self, stage, name, config, **inputs):
        (self.root / name).mkdir()
        function = stage if callable(stage) else stage.run
        given = {key: self.root / source for key, source in inputs.items()}
        return function(whole({"problems": PROBLEMS, **config}), given, self.root / name)

    def __getitem__(self, name):
        return load_policy(self.root / name, self.root / "base")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(tmp_path_factory.mktemp("lora"))


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, dict(ours), dict(theirs))


def test_a_round_without_data_passes_the_adapters_on(study):
    study.run(lambda config, inputs, out: passed_on(study["dpo"], out), "passed", {})
    assert not (study.root / "passed" / PARAMS_FILE).exists()
    assert len(load_adapters(study.root / "passed")) == len(load_adapters(study.root / "dpo")) == 2
    assert_equal(study["passed"].params, study["dpo"].params)


@pytest.mark.parametrize("name", ["sft", "rft", "dpo"])
def test_an_artifact_holds_adapters_and_no_params_and_is_small(study, name):
    folder = study.root / name
    held = {path.name for path in folder.iterdir()}
    assert {ADAPTERS_FILE, LORA_FILE, SHAPE_FILE, "metrics.jsonl"} <= held and PARAMS_FILE not in held
    assert (folder / ADAPTERS_FILE).stat().st_size < 0.5 * (study.root / "base" / PARAMS_FILE).stat().st_size
    stored = [Lora.model_validate(one) for one in json.loads((folder / LORA_FILE).read_text())]
    assert stored == [LORA] * (2 if name == "dpo" else 1)  # SFT's, then DPO's own


def test_adapters_are_merged_in_order_into_the_base_policy(study):
    base, ours = study["base"], study["dpo"]
    of_sft, of_dpo = load_adapters(study.root / "dpo")
    assert_equal(of_sft.params, load_adapters(study.root / "sft")[0].params)
    after_sft = merged(base.params, of_sft.params, LORA)
    assert_equal(study["sft"].params, after_sft)
    assert_equal(ours.params, merged(after_sft, of_dpo.params, LORA))
    assert ours.config == base.config and len(ours.adapters) == 2
    assert np.any(of_dpo.params["layers"][0]["ffn"]["down"]["adapter"]["b"])


def test_rft_from_base_knows_nothing_of_sfts_adapters(study):
    (adapters,) = study["rft"].adapters
    assert_equal(study["rft"].params, merged(study["base"].params, adapters.params, LORA))


def test_the_reference_policy_of_dpo_is_the_sft_policy_with_its_adapters(study):
    """Policy and reference agree before the first update, so its loss is ln 2."""
    first = json.loads((study.root / "dpo" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["update"] == 1 and first["train/loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert study["dpo"].adapters[1].params["layers"]  # and then it moves


def test_rollouts_and_evaluation_are_those_of_the_merged_policy(study, tmp_path):
    """A policy saved whole gives the same bytes."""
    (tmp_path / "whole").mkdir()
    save_policy(load_policy_whole(study), tmp_path / "whole")
    study.run(problem_sets, "problems", {"problems": {**PROBLEMS, "num_validation": 4, "num_test": 6}})
    for name, stage, config in (
        ("rollouts.parquet", rollouts, {"rollouts": {"samples_per_problem": 4}}),
        ("outcomes.parquet", evaluation, {"evaluation": {"samples_per_problem": 2, "pass_at": [2]}, "split": "test"}),
    ):
        frames = []
        for policy in ("dpo", tmp_path / "whole"):
            out = f"{stage.__name__}-{len(frames)}"
            study.run(
                stage,
                out,
                {"seed": 0, **config},
                policy=policy,
                base="base",
                synthetic="synthetic",
                problems="problems",
            )
            frames.append(pd.read_parquet(study.root / out / name))
        pd.testing.assert_frame_equal(*frames)


def load_policy_whole(study):
    policy = study["dpo"]
    return type(policy)(policy.params, policy.config)


def test_adapters_without_the_policy_they_start_from_are_refused(study, tmp_path):
    with pytest.raises(ValueError, match="holds adapters, not params; give the policy that they start from"):
        policy_of({"policy": study.root / "sft"}, "policy")
    study.run(pretrain, "other", {"policy": {"size": "xs", "base": "random"}, "pretrain": {"seed": 0}})
    with pytest.raises(ValueError, match="adapters of another shape"):
        load_policy(study.root / "sft", study.root / "other")


def test_training_flops_leave_out_the_gradients_of_frozen_matrices(study, tmp_path):
    of_adapters = study.run(sft, "again", {**TRAINING, "sft": SETTINGS}, base="base", synthetic="synthetic")
    config = {key: value for key, value in TRAINING.items() if key != "lora"}
    of_all = study.run(sft, "all", {**config, "sft": SETTINGS}, base="base", synthetic="synthetic")
    assert 0.6 < of_adapters["training_flops"] / of_all["training_flops"] < 0.9
    assert (study.root / "again" / ADAPTERS_FILE).read_bytes() == (study.root / "sft" / ADAPTERS_FILE).read_bytes()
