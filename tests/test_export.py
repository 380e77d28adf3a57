"""Policies as folders that servers load: their names, their tokenizers, and that each is written once."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_policy import CONFIG, random_params

from data.sampling.export import export_policy, policy_name
from data.tokens.tokenizer import Tokenizer, for_problems
from scaling.config.policy import Lora
from scaling.config.problems import ModularSum, StarGraph
from scaling.model.lora import init_adapters
from scaling.model.policy import Policy, load_policy, save_policy, save_trained

TOKENIZER = Tokenizer(tuple(f"w{index}" for index in range(3, CONFIG.vocab_size)))


def saved(folder, seed=0):
    folder.mkdir()
    save_policy(Policy(random_params(seed), CONFIG), folder)
    return folder


def test_a_name_follows_from_the_params_and_not_from_where_they_lie(tmp_path):
    one, same, other = ({"policy": saved(tmp_path / name, seed)} for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    (one["policy"] / "log.txt").write_text("an artifact has other files too")
    assert policy_name(one) == policy_name(same) != policy_name(other)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no policy"):
        policy_name({"policy": tmp_path / "empty"})


def test_adapters_are_merged_and_named_with_what_they_start_from(tmp_path):
    start = Policy(random_params(0), CONFIG)
    trained, bases = tmp_path / "trained", [saved(tmp_path / "base"), saved(tmp_path / "other", 1)]
    trained.mkdir()
    lora = Lora(rank=2)
    adapters = jax.tree.map(lambda leaf: leaf + 0.1, init_adapters(start.params, lora, jax.random.key(0)))
    save_trained(start, adapters, lora, trained)
    one, two = ({"policy": trained, "base": base} for base in bases)
    assert policy_name(one) != policy_name(two)
    folder = export_policy(one, TOKENIZER, tmp_path / "exports", "policy-x")
    stored = load_file(folder / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]
    merged = load_policy(trained, bases[0]).params["layers"][0]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(stored, np.asarray(merged).T)
    assert np.abs(stored - np.asarray(start.params["layers"][0]["attention"]["query"]["kernel"]).T).max() > 0.01


def test_an_export_is_written_once_and_leaves_nothing_else(tmp_path):
    policy, exports = saved(tmp_path / "a"), tmp_path / "exports"
    first = export_policy({"policy": policy}, TOKENIZER, exports, "policy-x")
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert export_policy({"policy": policy}, TOKENIZER, exports, "policy-x") == first == exports / "policy-x"
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert list(exports.iterdir()) == [first]
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in before} == names


def test_an_export_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("data.sampling.export.save_checkpoint", fail)
    with pytest.raises(OSError, match="No space left"):
        export_policy({"policy": saved(tmp_path / "a")}, TOKENIZER, tmp_path / "exports", "policy-x")
    assert list((tmp_path / "exports").iterdir()) == []


def test_an_export_is_read_back_as_the_same_policy(tmp_path):
    pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")
    from scaling.pretrained.hf import load_checkpoint

    policy = saved(tmp_path / "a")
    read = load_checkpoint(export_policy({"policy": policy}, TOKENIZER, tmp_path / "exports", "policy-x")).params
    jax.tree.map(np.testing.assert_array_equal, read, random_params(0))


@pytest.mark.parametrize(
    "settings", [ModularSum(modulus=11, operands=3), StarGraph()], ids=["modular_sum", "star_graph"]
)
def test_words_of_a_family_have_the_same_ids_in_transformers(tmp_path, settings):
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")
    ours = for_problems(settings)
    folder = export_policy({"policy": saved(tmp_path / "a")}, ours, tmp_path / "exports", "policy-x")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    text = " ".join(ours.words)
    assert theirs.encode(text, add_special_tokens=False) == ours.encode(text) == list(range(3, ours.vocab_size))
    assert theirs.decode([*ours.encode(text), 2], skip_special_tokens=True) == text
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id) == (0, 1, 2)
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == CONFIG.vocab_size
