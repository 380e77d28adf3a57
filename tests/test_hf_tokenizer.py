"""A checkpoint's tokenizer: the word tokenizer's interface, the chat template, and the same one out of GGUF files."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from tiny_policy import CONFIG

from data.tokens.gguf_tokenizer import write_tokenizer
from data.tokens.hf_tokenizer import NO_TEXT, load_tokenizer
from data.tokens.hf_tokenizer import save_tokenizer as save_tokenizer_of

for package in ("transformers", "tokenizers"):
    pytest.importorskip(package, reason="needs transformers: pip install -e '.[hf]'")

from tiny_tokenizer import TEMPLATE, WORDS, add_gguf_tokenizer, random_text, save_tokenizer  # noqa: E402

PAD, BOS, EOS = 0, 1, 2
SHAPE = replace(CONFIG, vocab_size=320)  # more than the tokenizer's 262, as in Qwen2.5


def ids_of(*words: str) -> list[int]:
    return [WORDS.index(word) for word in words]


@pytest.fixture
def tokenizer(tmp_path):
    save_tokenizer(tmp_path)
    return load_tokenizer(tmp_path, SHAPE)


def test_a_prompt_opens_with_bos_and_a_completion_closes_with_eos(tokenizer):
    assert tokenizer.encode_prompt("hel = 1") == [BOS, *ids_of("hel", "Ġ=", "Ġ", "1", "Ċ")]
    assert tokenizer.encode_completion("hel") == [*ids_of("hel"), EOS]
    assert tokenizer.vocab_size == SHAPE.vocab_size


def test_with_a_chat_template_a_prompt_is_the_users_turn_and_the_opening_of_the_assistants(tmp_path):
    save_tokenizer(tmp_path, TEMPLATE)
    tokenizer = load_tokenizer(tmp_path, SHAPE)
    text = tokenizer.tokenizer.decode(tokenizer.encode_prompt("hel = 1"))
    assert text == "<s>user\nhel = 1</s>\n<s>assistant\n"


def test_a_completion_never_grows_together_with_a_prompt_that_has_no_template(tokenizer):
    tokens = tokenizer.encode_prompt("#### 42.") + tokenizer.encode_completion("48/2 = 24 clips")
    assert tokenizer.tokenizer.decode(tokens) == "<s>#### 42.\n48/2 = 24 clips</s>"


def test_a_template_of_the_study_takes_the_place_of_the_chat_template(tmp_path):
    for chat_template in (None, TEMPLATE):
        save_tokenizer(tmp_path, chat_template)
        save_tokenizer_of(load_tokenizer(tmp_path, SHAPE), tmp_path, "Q: {prompt}\nA: {x}")
        tokens = load_tokenizer(tmp_path, SHAPE).encode_prompt("1 + {prompt} </s>")
        text = "Q: 1 + {prompt} </s>\nA: {x}"
        assert tokens == [BOS, *load_tokenizer(tmp_path, SHAPE).encode(text)] and EOS not in tokens


def test_texts_round_trip(tokenizer):
    for seed in range(50):
        text = random_text(np.random.default_rng(seed))
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.decode(tokenizer.encode_completion(text)) == text


def test_a_text_cannot_smuggle_in_a_special_token(tokenizer):
    assert EOS not in tokenizer.encode("a</s>b")
    assert tokenizer.decode(tokenizer.encode("a</s>b")) == "a</s>b"


def test_decoding_stops_at_any_stop_token_and_leaves_other_specials_out(tmp_path):
    save_tokenizer(tmp_path)
    tokenizer = load_tokenizer(tmp_path, replace(SHAPE, stop_tokens=(*ids_of("9"), EOS)))
    assert tokenizer.stop_tokens == (EOS, *ids_of("9"))
    assert tokenizer.decode([BOS, *ids_of("h", "9", "e")]) == "h"
    assert tokenizer.decode([PAD, *ids_of("h"), BOS, *ids_of("e"), EOS, *ids_of("l")]) == "he"


def test_an_id_that_stands_for_no_text_is_shown_and_one_of_no_policy_refused(tokenizer):
    assert tokenizer.decode([*ids_of("h"), 300, *ids_of("e")]) == f"h{NO_TEXT}e"
    for token in (-1, 320):
        with pytest.raises(ValueError, match=f"token {token} is outside the vocabulary of 320"):
            tokenizer.decode([token])


def test_a_word_of_several_tokens_has_no_id(tokenizer):
    assert [tokenizer.id_of("hel")] == ids_of("hel")
    with pytest.raises(ValueError, match=r"'hello' is 3 tokens, .*; expected a text that is one token"):
        tokenizer.id_of("hello")


def test_a_folder_without_a_whole_tokenizer_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"has no tokenizer: none of tokenizer.json"):
        load_tokenizer(tmp_path, SHAPE)
    save_tokenizer(tmp_path, eos=None)
    with pytest.raises(ValueError, match="the tokenizer has no eos_token"):
        load_tokenizer(tmp_path, SHAPE)
    save_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="the tokenizer has 262 tokens, but the policy's vocab_size is 32"):
        load_tokenizer(tmp_path, CONFIG)


def test_without_transformers_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install --editable '.\[hf\]'"):
        load_tokenizer(tmp_path, SHAPE)
    pytest.importorskip("gguf", reason="needs gguf: pip install -e '.[hf]'")
    with pytest.raises(ImportError, match=r"pip install --editable '.\[hf\]'"):
        write_tokenizer(tmp_path / "tiny.gguf", tmp_path)


def gguf_file(path, pre):
    gguf = pytest.importorskip("gguf", reason="needs gguf: pip install -e '.[hf]'")
    writer = gguf.GGUFWriter(path, "llama")
    add_gguf_tokenizer(writer, pre)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_tokenizer_of_a_gguf_file_is_that_of_the_checkpoint(tmp_path):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    save_tokenizer(tmp_path / "theirs", TEMPLATE)
    write_tokenizer(gguf_file(tmp_path / "tiny.gguf", "smollm"), tmp_path / "ours")
    ours, theirs = (load_tokenizer(tmp_path / name, SHAPE) for name in ("ours", "theirs"))
    assert ours.stop_tokens == theirs.stop_tokens
    for seed in range(50):
        text = random_text(np.random.default_rng(seed))
        assert ours.encode(text) == theirs.encode(text)
        assert ours.encode_prompt(text) == theirs.encode_prompt(text)
        assert ours.decode(theirs.encode_completion(text)) == text


@pytest.mark.parametrize("pre", ["gpt-2", "qwen2"])
def test_texts_round_trip_however_they_are_cut(pre, tmp_path):
    write_tokenizer(gguf_file(tmp_path / "tiny.gguf", pre), tmp_path)
    tokenizer = load_tokenizer(tmp_path, SHAPE)
    for seed in range(20):
        text = random_text(np.random.default_rng(seed))
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_gguf_tokenizer_that_is_not_known_is_refused_by_name(tmp_path):
    with pytest.raises(
        ValueError, match="its tokenizer is 'gpt2', cut as 'llama-bpe'; known is 'gpt2', cut as gpt-2, smollm"
    ):
        write_tokenizer(gguf_file(tmp_path / "tiny.gguf", "llama-bpe"), tmp_path)
