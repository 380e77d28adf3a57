"""Import of a pretrained policy: params, shape and tokenizer in one artifact that needs its source no more."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny_policy import CONFIG

from algorithms import import_policy
from data.tokens.hf_tokenizer import load_tokenizer
from scaling.model.policy import load_policy

pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[hf]'")
pytest.importorskip("gguf", reason="needs gguf: pip install -e '.[hf]'")

from random_checkpoint import random_policy, save_random
from stage_config import whole
from tiny_tokenizer import WORDS

SHAPE = replace(CONFIG, vocab_size=264, max_positions=64, stop_tokens=(2, 7))
PARAMS = random_policy(SHAPE).params


def imported(source, out, revision=None):
    out.mkdir()
    numbers = import_policy.run(whole({"policy": {"hf": str(source), "revision": revision}}), {}, out)
    return numbers, load_policy(out)


@pytest.fixture
def checkpoint(tmp_path):
    return save_random(tmp_path / "checkpoint", SHAPE)


def test_a_checkpoint_is_taken_in_whole_and_its_folder_needed_no_more(checkpoint, tmp_path):
    numbers, policy = imported(checkpoint, tmp_path / "out")
    expected = load_tokenizer(checkpoint, SHAPE).encode_prompt("hel = 12")
    shutil.rmtree(checkpoint)
    assert numbers == {"training_flops": 0.0, "num_updates": 0.0, "num_params": float(SHAPE.num_params)}
    assert policy.config == SHAPE
    jax.tree.map(np.testing.assert_array_equal, policy.params, dict(PARAMS))
    assert load_tokenizer(tmp_path / "out", policy.config).encode_prompt("hel = 12") == expected
    told = json.loads((tmp_path / "out" / import_policy.SOURCE_FILE).read_text())
    assert told == {"hf": str(checkpoint), "revision": None, "commit": None}


def test_a_template_of_the_study_is_taken_in_with_the_checkpoint(checkpoint, tmp_path):
    config = whole({"policy": {"hf": str(checkpoint), "prompt_template": "Q: {prompt}"}})
    (tmp_path / "out").mkdir()
    import_policy.run(config, {}, tmp_path / "out")
    tokenizer = load_tokenizer(tmp_path / "out", SHAPE)
    assert tokenizer.encode_prompt("12") == [WORDS.index("<s>"), *tokenizer.encode("Q: 12")]


def test_importing_twice_writes_the_same_bytes(checkpoint, tmp_path):
    for name in "ab":
        imported(checkpoint, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"policy.safetensors", "policy.json", "tokenizer.json"} <= set(files)
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_generation_config_says_what_stops_and_the_tokenizers_own_token_comes_first(checkpoint, tmp_path):
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": WORDS.index("h")}))
    _, policy = imported(checkpoint, tmp_path / "out")
    assert policy.config.stop_tokens == (2, WORDS.index("h"))


def test_a_checkpoint_without_a_tokenizer_is_refused(checkpoint, tmp_path):
    (checkpoint / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="has no tokenizer"):
        imported(checkpoint, tmp_path / "out")


def test_a_local_folder_has_no_revision(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="only the hub has revisions"):
        imported(checkpoint, tmp_path / "out", "main")


def test_a_checkpoint_is_imported_to_compute_in_bfloat16_where_the_sweep_says_so(checkpoint, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    settings = {"hf": str(checkpoint), "revision": None, "compute_dtype": "bfloat16"}
    import_policy.run(whole({"policy": settings}), {}, out)
    policy = load_policy(out)
    assert policy.config == replace(SHAPE, bfloat16=True)
    jax.tree.map(np.testing.assert_array_equal, policy.params, dict(PARAMS))  # float32, not rounded
