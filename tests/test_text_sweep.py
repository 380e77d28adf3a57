"""A whole study on problems in plain language: from the files and a checkpoint to the report, by the command line."""

import json

import pytest
import yaml
from tiny_set import gsm8k_folder

from scaling import sweep

pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")

from random_checkpoint import save_random

pytestmark = pytest.mark.slow

OPTIMIZER = {"learning_rate": 1e-4, "epochs": 1, "batch_size": 4}
# A random policy of bytes hits an answer of one digit now and then, so there are positives and negatives.
SWEEP = {
    "question": "Does every part work?",
    "grid": {"algorithm": ["sft", "rft", "dpo", "step_dpo"], "data_size": [6]},
    "seeds": [0],
    "sft": OPTIMIZER,
    "rft": OPTIMIZER,
    "dpo": OPTIMIZER,
    "step_dpo": OPTIMIZER,
    "rollouts": {"samples_per_problem": 32, "max_new_tokens": 24},
    "step_values": {"rollouts_per_prefix": 2, "negatives_per_problem": 2, "adaptive": True},
    "evaluation": {"samples_per_problem": 0, "pass_at": [], "max_new_tokens": 24},
}


def test_all_algorithms_learn_from_a_set_and_a_checkpoint_and_the_report_says_what_they_learned_from(
    tmp_path, monkeypatch, capsys
):
    problems = {"family": "gsm8k", "path": str(gsm8k_folder(tmp_path / "set")), "num_validation": 4, "num_test": 6}
    chosen = {"samples": 16, "num_candidates": 30, "max_new_tokens": 24}
    problems |= {"answer_forms": ["last_number"], "instruction": "", "solvable": chosen}
    policy = {"hf": str(save_random(tmp_path / "checkpoint"))}
    file, store = tmp_path / "text.yaml", tmp_path / "store"
    file.write_text(yaml.safe_dump({**SWEEP, "problems": problems, "policy": policy, "store": str(store)}))
    monkeypatch.chdir(tmp_path)
    assert sweep.main([str(file), "--inline"]) == 0, capsys.readouterr().out
    numbers = {}
    for path in store.glob("*/*/record.json"):
        record = json.loads(path.read_text())
        numbers.setdefault(record["kind"], record["numbers"])
    assert numbers["positives"]["num_positives"] > 0
    assert numbers["pairs"]["num_pairs"] > 0 and numbers["step_pairs"]["num_pairs"] > 0
    written = (tmp_path / "results" / "text" / "report.md").read_text()
    assert " were tried" in written and "All 4 runs are in. n = 6 test problems" in written
