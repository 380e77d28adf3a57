"""docs/performance.md says what the benchmarks' files say, and both sides of a benchmark do the same work."""

import json
import re

import numpy as np
import pytest

from benchmarks import examples, page, sides, workloads


def test_the_page_is_what_the_results_say():
    expected = page.document(sides.RESULTS)
    assert page.PAGE.read_text(encoding="utf-8") == expected, "run python -m benchmarks.page"


def test_a_ratio_is_ours_over_the_better_of_the_peers_two_ways():
    rows = []
    for name in ("generation", "training"):
        rows += json.loads((sides.RESULTS / f"{name}.json").read_text())["rows"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["ours"] / max(row["peer_two_threads"], row["peer_two_processes"]))
    assert len(re.findall(r"\*\*[\d.]+x\*\* \| \d+x \|", page.document(sides.RESULTS))) == len(rows)


def test_what_has_not_been_measured_is_said_to_be(tmp_path):
    assert page.document(tmp_path).count(page.NOT_MEASURED) == 7


def test_prompts_prefixes_and_pairs_stay_within_the_vocabulary_and_the_limits():
    starts, room = workloads.prefixes(count=20)
    assert len(starts) == len(room) == 60
    assert all(limit > 0 for limit in room)
    pairs = examples.pairs(20)
    for tokens in (*starts, *(pair.prompt + pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)):
        assert min(tokens) >= 0 and max(tokens) < workloads.VOCABULARY
    assert all(pair.chosen != pair.rejected and pair.chosen[-1] == workloads.EOS for pair in pairs)


def test_the_peers_weights_give_our_logits(tmp_path):
    """The conversion to transformers' names and layouts, against transformers itself."""
    torch = pytest.importorskip("torch", reason="torch is not installed; make bench compares with it")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from scaling.model.policy import load_policy
    from scaling.model.transformer import architecture

    folder = workloads.checkpoint("xs", tmp_path)
    policy, theirs = load_policy(folder), transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokens = np.array([workloads.prompts(count=1)[0]], np.int32)
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens.astype(np.int64))).logits.numpy()
    np.testing.assert_allclose(architecture(policy.config).apply(policy.params, tokens), expected, atol=1e-3)
