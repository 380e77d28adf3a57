"""What the benchmark compares is the same work on both sides, and its page says what its JSON says."""

import importlib.util
import json
import sys

import jax
import numpy as np
import pytest

from benchmarks import examples, page, sides, workloads
from scaling.model.policy import load_policy
from scaling.model.transformer import architecture


def test_the_same_seed_gives_the_same_prompts_and_prefixes_to_both_sides():
    assert workloads.prompts(ragged=True) == workloads.prompts(ragged=True)
    assert workloads.prompts(count=1024)[:3] != workloads.prompts(count=1024)[3:6]
    prefixes, room = workloads.prefixes()
    assert len(prefixes) == len(room) == 3 * workloads.NUM_PROBLEMS
    assert {len(prefix) + left for prefix, left in zip(prefixes, room, strict=True)} == {6 + workloads.LIMIT}


def test_chosen_completions_hold_true_sums_and_rejected_ones_one_wrong_sum():
    """Read back: `a b = c rest ;` until `# answer`."""
    for pair in examples.pairs(64):
        for completion, num_wrong in ((pair.chosen, 0), (pair.rejected, 1)):
            words = [token - examples.ZERO for token in completion]
            starts = [0, *(at + 1 for at, token in enumerate(completion) if token == examples.SEPARATOR)][:-1]
            sums = [(words[at] + words[at + 1] - words[at + 3]) % examples.MODULUS for at in starts]
            assert all(completion[at + 2] == examples.EQUALS for at in starts)
            assert sum(total != 0 for total in sums) == num_wrong
            assert completion[-3] == examples.ANSWER and completion[-1] == workloads.EOS
        assert pair.prompt[0] == workloads.BOS and pair.prompt[-1] == workloads.ASK
        assert len(pair.chosen) == len(pair.rejected)


def test_examples_are_nested_and_ragged():
    assert examples.pairs(8) == examples.pairs(64)[:8]
    assert {len(pair.prompt) for pair in examples.pairs(64)} == {operands + 2 for operands in range(3, 9)}


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is in the extra `bench` only")
def test_the_converted_weights_give_the_same_logits_in_transformers(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    folder = workloads.checkpoint("xs", tmp_path)
    tokens = np.array([pair.prompt[:5] + pair.chosen[:12] for pair in examples.pairs(4)])
    policy = load_policy(folder)
    ours = jax.jit(architecture(policy.config).apply)(policy.params, tokens)
    with torch.inference_mode():
        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(torch.tensor(tokens)).logits
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-4)  # float32 sums of logits of order 10


def test_the_page_says_what_the_json_says():
    assert page.PAGE.read_text(encoding="utf-8") == page.document(sides.RESULTS)


def test_a_missed_target_is_named_with_what_bounds_it(tmp_path, monkeypatch):
    row = {
        "size": "m",
        "work": "sft",
        "what": "SFT",
        "ours": 30.0,
        "peer_two_threads": 15.0,
        "peer_two_processes": 20.0,
    }
    rows = [row | {"ratio": 1.5, "target": 2.0}, row | {"size": "xs", "ratio": 2.5, "target": 2.0}]
    machine = {"machine": {"cores": 2}, "versions": {"jax": "1"}, "command": "measure", "repeats": 3}
    (tmp_path / "training.json").write_text(json.dumps({**machine, "unit": "sequences a second", "rows": rows}))
    monkeypatch.setattr(page, "BOUNDS", {})
    assert "- SFT, m: what bounds it is not known yet." in page.document(tmp_path)
    monkeypatch.setattr(page, "BOUNDS", {("sft", "m"): "the matmul."})
    text = page.document(tmp_path)
    assert "- SFT, m: the matmul." in text and "SFT, xs:" not in text
    assert "| SFT | m | 30 | 15 | 20 | **1.5x** | 2x | missed |" in text
    assert "| SFT | xs | 30 | 15 | 20 | **2.5x** | 2x | met |" in text
    assert "`measure`, 3 repeats, on: cores 2, jax 1." in text


def test_a_rate_is_all_rows_over_the_slowest_processs_median():
    results = [{"rows": 10, "seconds": [1.0, 9.0, 2.0]}, {"rows": 10, "seconds": [4.0, 5.0, 3.0]}]
    assert sides.rate(results) == 20 / 4


def test_a_process_that_fails_is_named_with_its_last_words(tmp_path):
    with pytest.raises(RuntimeError, match=r"benchmarks\.peak nothing.*failed with exit code 1:(.|\n)*IndexError"):
        sides.run([[sys.executable, "peak", "nothing"]])


def test_measuring_one_size_anew_keeps_the_rows_of_the_others_from_the_same_machine_only(tmp_path, monkeypatch):
    machine = {"machine": "this", "versions": "these", "repeats": 3}
    monkeypatch.setattr(sides, "environment", lambda settings, module: dict(machine))
    settings = sides.Settings("python", 3, False, tmp_path, ("m",))
    assert sides.rows_of_other_sizes(settings, "training") == []
    sides.write(settings, "training", {"rows": [{"size": size, "ratio": 1.0} for size in ("xs", "s", "m")]})
    assert [row["size"] for row in sides.rows_of_other_sizes(settings, "training")] == ["xs", "s"]
    machine["versions"] = "others"
    assert sides.rows_of_other_sizes(settings, "training") == []
