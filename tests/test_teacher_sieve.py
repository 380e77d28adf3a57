"""Copies and held-out problems: found exactly, whatever the index behind it skips."""

import random
import string

import pytest

from data.records import Problem
from data.teacher.sieve import Copies, Copy, HeldOut, Overlap, words_of

SENTENCE = "one two three four five six seven eight nine ten eleven twelve"


def test_words_have_no_capitals_and_no_punctuation_and_a_grouped_number_is_one():
    assert words_of("Ann's 1,200 Apples: 3.5 kg, 1,2!") == ("ann", "s", "1200", "apples", "3", "5", "kg", "1", "2")
    assert words_of("ﬁve x²") == words_of("FIVE x2")


def test_the_jaccard_index_of_word_triples_by_hand():
    copies = Copies(0.5)
    copies.add(7, "a b c d e f")  # abc bcd cde def
    assert copies.find("A, b: c d e F!") == Copy(7, 1.0)
    assert copies.find("a b c d e g") == Copy(7, 3 / 5)  # abc bcd cde; def and deg
    assert copies.find("a b c x e f") is None  # abc of 4 + 3
    assert copies.find("") is None


def test_short_texts_are_compared_as_a_whole():
    copies = Copies(0.7)
    copies.add(0, "two words")
    assert copies.find("Two words.") == Copy(0, 1.0)
    assert copies.find("two") is None and copies.find("two words more") is None


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_what_is_found_is_what_comparing_with_all_finds(threshold):
    rng = random.Random(0)
    copies, texts, found = Copies(threshold), [], 0
    for number in range(300):
        words = [rng.choice(string.ascii_lowercase[:6]) for _ in range(rng.randint(1, 12))]
        if texts and rng.random() < 0.5:  # change a few words of an earlier text
            words = rng.choice(texts).split()
            for _ in range(rng.randint(0, 2)):
                words[rng.randrange(len(words))] = rng.choice("xyz")
        text = " ".join(words)
        similar = [(index, similarity(text, other)) for index, other in enumerate(texts)]
        same = [index for index, other in enumerate(texts) if other == text]
        near = [index for index, value in similar if value >= threshold]
        expected = same or near
        copy = copies.find(text)
        assert (copy is None) == (not expected)
        if copy is not None:
            found += 1
            assert copy.of == expected[0]
        copies.add(number, text)
        texts.append(text)
    assert found > 20


def similarity(one: str, other: str) -> float:
    def triples(text: str) -> frozenset:
        words = text.split()
        length = min(3, len(words))
        return frozenset(tuple(words[start : start + length]) for start in range(len(words) - length + 1))

    return len(triples(one) & triples(other)) / len(triples(one) | triples(other))


def test_ten_words_in_a_row_of_a_held_out_problem_are_found_wherever_they_stand():
    held_out = HeldOut({"validation": [Problem("Nothing like it.", "1")], "test": [Problem(SENTENCE, "2")]}, 10)
    assert held_out.find(f"So, {SENTENCE.title()}?") == Overlap("test", 0, " ".join(SENTENCE.split()[:10]))
    assert (
        held_out.find(f"zero {' '.join(SENTENCE.split()[2:])}!").words
        == "three four five six seven eight nine ten eleven twelve"
    )
    assert held_out.find(" ".join(SENTENCE.split()[:9])) is None
    assert held_out.find(SENTENCE.replace("six", "6")) is None


def test_a_held_out_problem_of_fewer_words_is_found_when_it_is_the_whole_question():
    held_out = HeldOut({"test": [Problem("What is 2 + 2?", "4")]}, 10)
    assert held_out.find("what is 2+2") == Overlap("test", 0, "what is 2 2")
    assert held_out.find("Ann asks: what is 2+2") is None
