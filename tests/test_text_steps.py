"""Steps cut by text: where lines and sentences end, and that tokens join to the completion again whatever they are."""

from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.problems.text_cuts import line_cuts, reasoning_lines, reasoning_sentences, sentence_cuts, word_cuts
from data.tokens.steps import text_step_ends

TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            ["\n", "\r\n", "\n\n", " \n\t", "\r", " ", ". ", "! ", "? ", ".", "3.5", "Mr. ", "。", "$x$. "]
        ),
        st.text(max_size=4),
        st.sampled_from(["So", "he", "世界", "é", "🙂", "1", "\N{NO-BREAK SPACE}"]),
    ),
    max_size=20,
).map("".join)
CUTS = {
    "line": line_cuts,
    "sentence": sentence_cuts,
    "word": partial(word_cuts, separator="="),
    "every word": partial(word_cuts, separator=None),
    "reasoning by line": reasoning_lines,
    "reasoning by sentence": reasoning_sentences,
}


def pieces(text, cuts):
    return [text[start:end] for start, end in pairwise([0, *cuts(text), len(text)])]


# Texts.


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("48/2 = 24\n48+24 = 72\n#### 72", ["48/2 = 24\n", "48+24 = 72\n", "#### 72"]),
        ("a\r\nb\r\n\r\nc", ["a\r\n", "b\r\n\r\n", "c"]),
        ("a\rb", ["a\r", "b"]),
        ("a\n \n\t\n  b", ["a\n \n\t\n", "  b"]),  # blank lines end a step, the indentation starts the next
        ("\n\na\n\n", ["\n\na\n\n"]),
        ("one. two", ["one. two"]),
        ("", [""]),
        (" \n ", [" \n "]),
    ],
)
def test_a_line_ends_a_step_and_blank_lines_belong_to_the_line_above(text, lines):
    assert pieces(text, line_cuts) == lines


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("He has 3.5 apples. She has 4.", ["He has 3.5 apples.", " She has 4."]),
        ("It costs $3. 5 of them cost $15.", ["It costs $3.", " 5 of them cost $15."]),
        ("Mr. Smith pays Mrs. Jones. Dr. No, too!", ["Mr. Smith pays Mrs. Jones.", " Dr. No, too!"]),
        ("See e.g. Euler (cf. Gauss). Done.", ["See e.g. Euler (cf. Gauss).", " Done."]),
        ("At 5 p.m. he leaves. Then?", ["At 5 p.m. he leaves.", " Then?"]),
        ("Is it so? Yes! Good... well", ["Is it so?", " Yes!", " Good... well"]),
        ('He says "Stop." Then he goes.', ['He says "Stop."', " Then he goes."]),
        ("So $x = 3.$ Then \\(y = 4.\\) Now add.", ["So $x = 3.$", " Then \\(y = 4.\\)", " Now add."]),
        ("1. Add them.\n2. Halve it.", ["1. Add them.\n", "2. Halve it."]),
        ("The total is 12. 3 are left.", ["The total is 12.", " 3 are left."]),
        ("First line\nSecond. Third\n\nFourth", ["First line\n", "Second.", " Third\n\n", "Fourth"]),
        ("甲有3个。乙有4个！共7个。", ["甲有3个。", "乙有4个！", "共7个。"]),
        ("0.5.1 is no number. 2 is", ["0.5.1 is no number.", " 2 is"]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text, sentences):
    assert [piece for piece in pieces(text, sentence_cuts) if piece] == sentences


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("So\n$$\nx = 5\n$$\nis it.", ["So\n$$\n", "x = 5\n$$\n", "is it."]),
        ("<think>\nFirst.\n</think>\nSo 5.\n#### 5", ["<think>\nFirst.\n</think>\n", "So 5.\n", "#### 5"]),
        ("----\nA\n----\nB\n\n***", ["----\nA\n----\n", "B\n\n***"]),
        ("```python\nx = 1\n```\nIt is 1.", ["```python\nx = 1\n```\n", "It is 1."]),
        ("\\begin{align*}\nx &= 5\n\\end{align*}\nDone", ["\\begin{align*}\nx &= 5\n\\end{align*}\n", "Done"]),
        ("He has 3. She has 4. So 7.", ["He has 3.", " She has 4.", " So 7."]),  # one line: by sentence
        ("He has 3. She has 4. So 7.\n#### 7", ["He has 3.", " She has 4.", " So 7.\n", "#### 7"]),
        ("He has 3. She has 4.\nSo 7.", ["He has 3. She has 4.\n", "So 7."]),
        ("$$", ["$$"]),
        ("甲有3个\n共7个", ["甲有3个\n", "共7个"]),
    ],
)
def test_a_mark_alone_is_no_step_and_a_chain_of_thought_in_one_line_has_sentences(text, steps):
    assert pieces(text, reasoning_lines) == steps


@given(TEXTS)
def test_cuts_leave_nothing_blank_and_sentences_cut_wherever_lines_do(text):
    for cuts in CUTS.values():
        assert cuts(text) == [] or all(piece.strip() for piece in pieces(text, cuts))
    assert set(line_cuts(text)) <= set(sentence_cuts(text))


def test_words_cut_at_the_separator_or_everywhere():
    assert pieces("1 2 = 3 ; 4; ; # 5", lambda text: word_cuts(text, ";")) == ["1 2 = 3 ;", " 4; ;", " # 5"]
    assert pieces("7  8 ", lambda text: word_cuts(text, None)) == ["7", "  8 "]


# Tokens.


class Bytes:
    """A tokenizer of bytes and of a few texts that hold a step's end inside; 0 stops."""

    stop_tokens = (0,)
    merges = (b". S", b".\n\n", b"\n\n", b"\r\n", b"3.", b" =", "é".encode()[1:] + b".")

    def encode(self, text):
        data, tokens = text.encode(), []
        while data:
            merge = next((number for number, merge in enumerate(self.merges) if data.startswith(merge)), None)
            token = bytes([data[0]]) if merge is None else self.merges[merge]
            tokens.append(1 + data[0] if merge is None else 257 + merge)
            data = data[len(token) :]
        return tokens

    def decode(self, tokens):
        parts = [bytes([token - 1]) if token < 257 else self.merges[token - 257] for token in tokens if token]
        return b"".join(parts).decode(errors="replace")


TOKENIZER = Bytes()
IDS = st.lists(
    st.one_of(st.sampled_from([*TOKENIZER.encode("\n. =Sa3é世"), 0]), st.integers(0, 263)),
    max_size=40,
)


def steps_of(tokens, cuts):
    return [tokens[start:end] for start, end in pairwise([0, *text_step_ends(tokens, cuts, TOKENIZER)])]


@given(IDS, st.sampled_from(list(CUTS)))
def test_steps_of_any_tokens_join_to_them_and_none_is_blank(tokens, unit):
    steps = steps_of(tokens, CUTS[unit])
    assert [token for step in steps for token in step] == tokens
    assert all(steps)
    if len(steps) > 1:
        assert all(TOKENIZER.decode(step).strip() for step in steps)


@given(IDS, st.sampled_from(list(CUTS)))
def test_the_stop_token_and_all_behind_it_belong_to_the_last_step(tokens, unit):
    *inner, last = steps_of([*tokens, 0], CUTS[unit])
    assert 0 in last and not any(0 in step for step in inner)
    written = tokens[: tokens.index(0)] if 0 in tokens else tokens
    before = steps_of(written, CUTS[unit])
    assert before == [] or inner == before[:-1]


@given(TEXTS, st.sampled_from(list(CUTS)))
def test_where_every_token_is_a_byte_the_texts_of_steps_are_those_of_the_text(text, unit):
    class OnlyBytes(Bytes):
        merges = ()

    tokens = OnlyBytes().encode(text)
    ends = text_step_ends(tokens, CUTS[unit], OnlyBytes())
    steps = [OnlyBytes().decode(tokens[start:end]) for start, end in pairwise([0, *ends])]
    assert steps == ([] if text == "" else pieces(text, CUTS[unit]))


def test_a_step_ends_with_the_token_that_completes_it():
    def texts(text, cuts):
        return [TOKENIZER.decode(step) for step in steps_of(TOKENIZER.encode(text), cuts)]

    assert texts("a. So\n\nb", sentence_cuts) == ["a. S", "o\n\n", "b"]  # ". S" is one token
    assert texts("a. S", sentence_cuts) == ["a. S"]
    assert texts("a.\n\nb\r\nc", line_cuts) == ["a.\n\n", "b\r\n", "c"]
    assert texts("a = b = c", lambda text: word_cuts(text, "=")) == ["a =", " b =", " c"]


def test_a_character_of_several_tokens_belongs_to_the_step_of_its_last():
    tokens = TOKENIZER.encode("é. É")
    assert [TOKENIZER.decode([token]) for token in tokens] == ["\ufffd", "\ufffd.", " ", "\ufffd", "\ufffd"]
    assert steps_of(tokens, sentence_cuts) == [tokens[:2], tokens[2:]]


def test_no_tokens_are_no_steps_and_a_blank_completion_is_one():
    for cuts in CUTS.values():
        assert steps_of([], cuts) == []
        assert steps_of([0], cuts) == [[0]]
        blank = TOKENIZER.encode(" \n\n ")
        assert steps_of([*blank, 0], cuts) == [[*blank, 0]]
