"""Which written questions stay out of D_syn: copies and near copies of another one, and held-out problems.

In: texts. Out: `Copies`, which finds the earlier question that a new one repeats, exactly or nearly, and `HeldOut`,
which finds the validation or test problem that it shares words with. Texts are compared as words and numbers in lower
case, without punctuation. Nearness is the Jaccard index of the sets of word triples.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from data.records import Problem

SHINGLE_WORDS = 3

Words = tuple[str, ...]


@dataclass(frozen=True)
class Copy:
    """The earlier question that a new one repeats."""

    of: int  # its number in `add`
    similarity: float  # 1.0 for the same words


@dataclass(frozen=True)
class Overlap:
    """The held-out problem that a question shares words with."""

    split: str
    index: int  # in its split
    words: str  # the first ones in common


class Copies:
    """The questions so far."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._exact: dict[Words, int] = {}
        self._num_shingles: dict[int, int] = {}
        self._holders: dict[Words, list[int]] = {}  # shingle -> the questions that have it

    def find(self, text: str) -> Copy | None:
        """The first question that this one repeats; one in the same words counts before one that is nearly the same."""
        words = words_of(text)
        if words in self._exact:
            return Copy(self._exact[words], 1.0)
        shingles = _shingles(words)
        shared = Counter(number for shingle in shingles for number in self._holders.get(shingle, ()))
        for number in sorted(shared):
            similarity = shared[number] / (len(shingles) + self._num_shingles[number] - shared[number])
            if similarity >= self._threshold:
                return Copy(number, similarity)
        return None

    def add(self, number: int, text: str) -> None:
        """Add a question."""
        words = words_of(text)
        shingles = _shingles(words)
        self._exact.setdefault(words, number)
        self._num_shingles[number] = len(shingles)
        for shingle in shingles:
            self._holders.setdefault(shingle, []).append(number)


class HeldOut:
    """The validation and test problems, by their runs of n words; a shorter problem counts as a whole."""

    def __init__(self, problems: Mapping[str, Sequence[Problem]], ngram: int) -> None:
        self._ngram = ngram
        self._runs: dict[Words, tuple[str, int]] = {}  # run, or all words of a shorter problem -> split and index
        for split, held_out in problems.items():
            for index, problem in enumerate(held_out):
                words = words_of(problem.prompt)
                for run in _runs(words, min(ngram, len(words))):
                    self._runs.setdefault(run, (split, index))

    def find(self, text: str) -> Overlap | None:
        """The problem that a question repeats, or shares n words in a row with; None if there is no such problem."""
        words = words_of(text)
        for run in (words, *_runs(words, self._ngram)):
            if run in self._runs:
                return Overlap(*self._runs[run], " ".join(run))
        return None


def words_of(text: str) -> Words:
    """Words and numbers in lower case; 1,200 is one number."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return tuple(re.findall(r"[^\W_]+", re.sub(r"(?<=\d),(?=\d{3}\b)", "", plain)))


def _shingles(words: Words) -> frozenset[Words]:
    return frozenset(_runs(words, min(SHINGLE_WORDS, max(len(words), 1))))


def _runs(words: Words, length: int) -> Iterator[Words]:
    return (words[start : start + length] for start in range(len(words) - length + 1))
