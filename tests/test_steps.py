"""Steps of a completion: they cut where the separator says and join to the completion again."""

from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_chain import split_steps

from data.problems.families import family_of
from data.tokens.steps import step_ends
from data.tokens.tokenizer import EOS, for_problems
from scaling.config.problems import Ledger, ModularSum, StarGraph

SEPARATOR = 7
TOKENS = st.lists(st.sampled_from([0, 1, EOS, 3, 4, SEPARATOR]), max_size=30)


def test_a_step_ends_with_its_separator_and_eos_belongs_to_the_last_step():
    tokens = [3, 4, SEPARATOR, 5, SEPARATOR, 6, EOS]
    assert split_steps(tokens, SEPARATOR) == [[3, 4, SEPARATOR], [5, SEPARATOR], [6, EOS]]
    assert step_ends(tokens, SEPARATOR) == [3, 5, 7]


def test_without_a_separator_every_word_is_a_step():
    assert split_steps([3, 4, 5, EOS], None) == [[3], [4], [5, EOS]]
    assert split_steps([3, 4, 5], None) == [[3], [4], [5]]


def test_odd_endings_give_no_empty_step():
    assert split_steps([3, SEPARATOR, EOS], SEPARATOR) == [[3, SEPARATOR, EOS]]
    assert split_steps([3, SEPARATOR], SEPARATOR) == [[3, SEPARATOR]]
    assert split_steps([SEPARATOR, SEPARATOR], SEPARATOR) == [[SEPARATOR], [SEPARATOR]]
    assert split_steps([EOS], SEPARATOR) == split_steps([EOS], None) == [[EOS]]
    assert split_steps([], SEPARATOR) == step_ends([], None) == []


def test_what_stands_behind_eos_stays_with_the_last_step():
    assert split_steps([3, SEPARATOR, 4, EOS, SEPARATOR, 0], SEPARATOR) == [[3, SEPARATOR], [4, EOS, SEPARATOR, 0]]


@settings(deadline=None)
@given(TOKENS, st.sampled_from([SEPARATOR, None]))
def test_steps_join_to_the_completion_and_none_is_empty(tokens, separator):
    steps = split_steps(tokens, separator)
    assert [token for step in steps for token in step] == tokens
    assert all(steps)
    assert step_ends(tokens, separator) == list(accumulate(map(len, steps)))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([ModularSum(modulus=7, operands=3), StarGraph(path_length=3), Ledger(modulus=7)]), st.data())
def test_the_verifier_and_the_splitter_cut_at_the_same_words(config, data):
    """Verdicts and step values of one completion are compared step by step."""
    family, tokenizer = family_of(config), for_problems(config)
    words = data.draw(
        st.lists(
            st.sampled_from(["1", "2", "=", *{"modular_sum": ";#", "star_graph": "|/", "ledger": ";#"}[config.family]])
        )
    )
    problem = {
        "modular_sum": _problem("1 2 3 ?", "6"),
        "star_graph": _problem("1 2 | 2 3 | 1 4 | 4 5 / 1 3 =", "1 2 3"),
        "ledger": _problem("Ana has 1 . Bo has 2 . Cy is Ana plus Bo . how many has Cy ?", "3"),
    }
    check = family.check(config, problem[config.family], " ".join(words))
    separator = family.step_separator(config)
    tokens = tokenizer.encode_completion(" ".join(words))
    steps = split_steps(tokens, None if separator is None else tokenizer.id_of(separator))
    assert [step.text for step in check.steps] == [tokenizer.decode(step) for step in steps]


def _problem(prompt, answer):
    from data.records import Problem

    return Problem(prompt, answer)
