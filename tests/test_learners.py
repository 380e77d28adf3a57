"""Every learner and each setting of its loss: from a sweep file to its test error, in this process."""

import pandas as pd
import pytest
import yaml

from scaling import sweep

SOFT = {"labels": "advantage", "pair_mode": "shared_prefix", "label_scale": 0.5}
POLICY = {"size": "xxs", "base": "random"}
FAMILY = {"family": "modular_sum", "modulus": 11, "operands": 3, "num_validation": 8, "num_test": 16}
FLAWED = {**FAMILY, "flaw_rate": 0.5}
FEW = {"iterations": 3, "problems_per_update": 4, "samples_per_problem": 4}
ARMS = {
    "ipo": ("dpo", {"dpo": {"loss": "ipo"}}),
    "cdpo": ("dpo", {"dpo": {"label_smoothing": 0.1}}),
    "simpo": ("dpo", {"dpo": {"loss": "simpo", "beta": 2.0, "simpo_margin": 0.5}}),
    "soft": ("step_dpo", {"step_dpo": SOFT}),
    "right_steps": ("filtered_sft", {"problems": FLAWED}),
    "small_loss": ("filtered_sft", {"filtered_sft": {"keep": "small_loss"}, "problems": FLAWED}),
    "awr": ("awr", {}),
    "kto": ("kto", {}),
    "kto_by_step": ("kto_by_step", {}),
    "grpo": ("group_pg", {"group_pg": {**FEW, "kl_weight": 0.01, "updates_per_iteration": 2}}),
    "dr_grpo": ("group_pg", {"group_pg": {**FEW, "loss": "dr_grpo"}}),
    "dapo": ("group_pg", {"group_pg": {**FEW, "loss": "dapo", "dynamic_sampling": 2}}),
    "rloo": ("group_pg", {"group_pg": {**FEW, "loss": "rloo", "kl_weight": 0.05}, "verifier": {"classes": 2}}),
    "cispo": ("group_pg", {"group_pg": {**FEW, "loss": "cispo"}, "policy": {**POLICY, "lora": {"rank": 2}}}),
    "step_pg": ("step_pg", {"step_pg": {**FEW, "rollouts_per_prefix": 4}, "verifier": {"classes": 2}}),
    "distill": ("distill", {"distill": {**FEW, "teacher_updates": 5}, "pretrain": {"batch_size": 8}}),
    "best": ("dpo", {"checkpoint": {"keep": "best", "among": 3}}),
    "best_of_pg": ("group_pg", {"group_pg": FEW, "checkpoint": {"keep": "best", "among": 3}}),
    "negatives_only": ("group_pg", {"group_pg": {**FEW, "positive_weight": 0.0}, "rounds": 2}),
}


@pytest.mark.slow
def test_every_learner_runs_from_a_sweep_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, (algorithm, sections) in ARMS.items():
        document = {
            "question": "Does it run?",
            "store": str(tmp_path / "store"),
            "problems": FAMILY,
            "policy": POLICY,
            "sft": {"epochs": 20, "batch_size": 8, "learning_rate": 1e-2},
            "rollouts": {"samples_per_problem": 8},
            "evaluation": {"samples_per_problem": 0, "pass_at": []},
            "grid": {"algorithm": [algorithm], "data_size": [8]},
            "seeds": [0],
            "analysis": {"reference": algorithm, "bootstrap_draws": 200},
            **sections,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        assert sweep.main([str(path), "--inline"]) == 0, name
        runs = pd.read_csv(tmp_path / f"results/{name}/runs.csv")
        assert runs["status"].tolist() == ["done"] and runs["error"].between(0, 1).all(), name
        if "checkpoint" in sections:
            assert runs["checkpoint_fraction"].between(0, 1).all(), name
        if algorithm in ("group_pg", "step_pg", "distill"):
            assert (runs["generation_flops"] > 0).all() and runs["mean_reward"].between(0, 1).all(), name
