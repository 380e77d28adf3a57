"""The tokenizer: one id a word, specials first, and errors that name the word."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.tokens.tokenizer import BOS, EOS, PAD, Tokenizer, for_problems
from scaling.config.problems import ModularSum, StarGraph

WORDS = ("a", "b", ";")


def test_specials_come_first_and_words_follow_in_order():
    assert (PAD, BOS, EOS) == (0, 1, 2)
    assert Tokenizer(WORDS).encode("a b ;") == [3, 4, 5]
    assert Tokenizer(WORDS).vocab_size == 6


def test_a_prompt_opens_with_bos_and_a_completion_closes_with_eos_and_has_no_bos():
    tokenizer = Tokenizer(WORDS)
    assert tokenizer.encode_prompt("a b") == [BOS, 3, 4]
    assert tokenizer.encode_completion("a b") == [3, 4, EOS]
    assert tokenizer.encode_prompt("") == [BOS]
    assert tokenizer.encode_completion("") == [EOS]


def test_decoding_stops_at_eos_and_skips_padding():
    assert Tokenizer(WORDS).decode([PAD, BOS, 3, 4, EOS, 5, 99]) == "a b"


def test_an_unknown_word_is_named():
    with pytest.raises(ValueError, match="word 'c' in 'a c' is not among the 3 words"):
        Tokenizer(WORDS).encode("a c")


@pytest.mark.parametrize("token", [-1, 6])
def test_a_token_outside_the_vocabulary_is_named(token):
    with pytest.raises(ValueError, match=f"token {token} is outside the vocabulary of 6"):
        Tokenizer(WORDS).decode([3, token])


@pytest.mark.parametrize("word", ["", "a b", "<eos>", " a"])
def test_a_word_that_could_not_be_read_back_is_refused(word):
    with pytest.raises(ValueError, match="rename it"):
        Tokenizer((*WORDS, word))


def test_a_word_that_stands_twice_is_refused():
    with pytest.raises(ValueError, match="'b' is in the vocabulary twice"):
        Tokenizer(("a", "b", "c", "b"))


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS)))
def test_texts_round_trip(words):
    tokenizer = Tokenizer(WORDS)
    text = " ".join(words)
    assert tokenizer.decode(tokenizer.encode_prompt(text)) == text
    assert tokenizer.decode(tokenizer.encode_completion(text)) == text


@pytest.mark.parametrize(
    ("config", "vocab_size"), [(ModularSum(modulus=23), 3 + 23 + 4), (StarGraph(num_nodes=30), 36)]
)
def test_a_family_has_one_token_a_number_and_a_few_signs(config, vocab_size):
    tokenizer = for_problems(config)
    assert tokenizer.vocab_size == vocab_size
    assert [tokenizer.decode([tokenizer.id_of(word)]) for word in tokenizer.words] == list(tokenizer.words)
