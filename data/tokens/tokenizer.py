"""Words to token ids and back: one token a word, three specials first; and how many tokens a completion may have.

In: a family's vocabulary. Out: `Tokenizer`. A prompt is BOS and its words; a completion is its words and EOS, never
a BOS, so that prompt and completion concatenate to one sequence.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data.problems.families import family_of
from data.tokens.hf_tokenizer import HfTokenizer, before_stop, load_tokenizer
from scaling.config.problems import Problems

PAD, BOS, EOS = 0, 1, 2
SPECIALS = ("<pad>", "<bos>", "<eos>")


@dataclass(frozen=True)
class Tokenizer:
    """Ids 0, 1, 2 are `<pad>`, `<bos>`, `<eos>`; the words follow in order."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        bad = [word for word in self.words if word in SPECIALS or word.split() != [word]]
        if bad:
            raise ValueError(
                f"tokenizer: word {bad[0]!r} is empty, has white space or is one of {SPECIALS}; rename it."
            )
        if len(set(self.words)) != len(self.words):
            twice = next(word for word in self.words if self.words.count(word) > 1)
            raise ValueError(f"tokenizer: word {twice!r} is in the vocabulary twice; words must differ.")

    @property
    def vocab_size(self) -> int:
        return len(SPECIALS) + len(self.words)

    def id_of(self, word: str) -> int:
        """The id of one word."""
        return self.encode(word)[0]

    def encode(self, text: str) -> list[int]:
        """Ids of the words of a text, without specials."""
        ids = self._ids
        try:
            return [ids[word] for word in text.split()]
        except KeyError as unknown:
            raise ValueError(
                f"tokenizer: word {unknown.args[0]!r} in {text[:60]!r} is not among the {len(self.words)} words of the"
                " vocabulary; the text comes from another problem family or config."
            ) from None

    def encode_prompt(self, text: str) -> list[int]:
        return [BOS, *self.encode(text)]

    def encode_completion(self, text: str) -> list[int]:
        return [*self.encode(text), EOS]

    def decode(self, ids: Iterable[int]) -> str:
        """The words up to the first EOS, PAD and BOS left out."""
        kept = before_stop(ids, (EOS,), self.vocab_size)
        return " ".join(self.words[token - len(SPECIALS)] for token in kept if token > EOS)

    def room_for(self, num_words: int, vocabulary: Sequence[str]) -> int:
        """The most tokens that num_words words take."""
        return num_words

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words, start=len(SPECIALS))}


AnyTokenizer = Tokenizer | HfTokenizer


def tokenizer_of(problems: Problems, inputs: Mapping[str, Path]) -> AnyTokenizer:
    """The tokenizer of a stage: that of the imported policy among its inputs, or else the family's words."""
    if "tokenizer" not in inputs:
        return for_problems(problems)
    from scaling.model.policy import load_shape  # brings jax

    return load_tokenizer(inputs["tokenizer"], load_shape(inputs["tokenizer"]))


def for_problems(config: Problems) -> Tokenizer:
    """The tokenizer of a family's config."""
    return Tokenizer(family_of(config).vocabulary(config))


def completion_limit(problems: Problems, tokenizer: AnyTokenizer, max_new_tokens: int | None) -> int:
    """max_new_tokens; by default the length of the family's longest solution with a stop token.

    One limit of a whole completion, its stop token included, for rollouts, for continuations of their prefixes, the
    prefix included, and for evaluation.
    """
    if max_new_tokens is not None:
        return max_new_tokens
    family = family_of(problems)
    return tokenizer.room_for(family.max_completion_words(problems), family.vocabulary(problems)) + 1
