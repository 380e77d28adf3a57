"""Ledgers: problems in words about who has how many, whose steps can be right and still not be needed.

In: a `Ledger` config. Out: problems, teacher solutions, web text for the base policy, and an exact verifier of every
step. A small problem modulo 23, its sentences shuffled, and one of its solutions:

    Ana has 7 . Cy is Di plus Ana plus Bo . Gus is Bo plus Ana . Bo has 12 . Di is Ana plus Bo . how many has Cy ?
    Di : Bo 12 plus Ana 7 = 19 ; Cy : Ana 7 plus Bo 12 = 19 ; Cy 19 plus Di 19 = 15 ; # 15

A step opens a sum with two of its terms, or adds one more term to what it has come to; the terms may be taken in any
order, and the steps of several sums may alternate. Numbers are added modulo p; the facts are the sums of two numbers,
and a + b is the same fact as b + a. Gus is not needed: a step of that sum can be right and is spurious all the same,
and an answer says nothing about it, so that a wrong one passes every verifier of answers.

The teacher and the web text finish a sum before they begin another. The web text, as that of modular sums, states a
fact correctly with a probability drawn once from a Beta law, and otherwise as one fixed wrong value; and it works out
sums that are not needed (a relative of iGSM, Ye et al. 2024, arXiv 2407.20311, far smaller).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache

import numpy as np
from scipy.special import entr

from data.records import Check, Problem, StepCheck
from scaling.config.problems import Ledger

_NAMES = (
    "Ana", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal", "Ida", "Jo", "Kim", "Lea", "Max", "Nia", "Oz", "Pia", "Quinn",
    "Roy", "Sue", "Tom", "Uma", "Vic", "Wes", "Xia", "Yan", "Zoe", "Abe", "Bea", "Cal", "Dot", "Eli", "Fay", "Gil",
    "Hue", "Ian", "Jan", "Ken", "Liv", "Mo", "Ned",
)  # fmt: skip
_WORDS = ("has", "is", "plus", ".", "how", "many", "?", ":", "=", ";", "#")
_FACTS = 0x1ED6E
_FLAWS = 0xF1A36  # seeds the teacher's fixed wrong sums
_ORDERS = 64  # orders of steps to try, in search of two sums that cancel
NOT_ALLOWED, NOT_READY, WRONG_FACT, UNNEEDED = "not allowed", "not ready", "wrong fact", "unneeded"  # labels of steps

Add = Callable[[str, int, int], int]  # (whose sum, a, b) -> what a step states as a + b


@dataclass(frozen=True)
class Facts:
    """What the web text says of each pair, symmetric. Drawn when asked for, as in data.problems.modular_sum."""

    config: Ledger
    seed: int

    @cached_property
    def wrong(self) -> np.ndarray:
        """int64 [p, p], the value that is stated where the sum is not right."""
        return self._drawn()[1]

    @cached_property
    def confidence(self) -> np.ndarray:
        """float64 [p, p], chance that the stated sum is right."""
        rng, wrong = self._drawn()
        return _symmetric(rng.beta(*self.config.web_confidence, wrong.shape))

    def _drawn(self) -> tuple[np.random.Generator, np.ndarray]:
        modulus = self.config.modulus
        rng, values = np.random.default_rng([_FACTS, modulus, self.seed]), np.arange(modulus)
        off = _symmetric(rng.integers(1, modulus, (modulus, modulus)))
        return rng, (values[:, None] + values[None, :] + off) % modulus


@dataclass(frozen=True)
class Story:
    """A prompt as it is read."""

    numbers: Mapping[str, int]  # of the people whose number is stated
    sums: Mapping[str, tuple[str, ...]]  # the others, each with the names of its terms
    asked: str

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """The sums that the answer depends on, each after those among its terms."""
        return tuple(dict.fromkeys(self._below(self.asked)))

    @cached_property
    def unneeded(self) -> tuple[str, ...]:
        return tuple(name for name in self.sums if name not in self.needed)

    def _below(self, name: str) -> Iterator[str]:
        for term in self.sums[name]:
            if term in self.sums:
                yield from self._below(term)
        yield name


@dataclass(frozen=True)
class Entry:
    """A step as it is written: `Cy : Ana 7 plus Di 3 = 10 ;` opens a sum, `Cy 10 plus Bo 12 = 22 ;` goes on."""

    name: str
    terms: tuple[str, ...]  # two or one
    a: int
    b: int
    c: int


@dataclass
class Progress:
    """How far a completion has come, as it states it itself."""

    story: Story
    totals: dict[str, int] = field(default_factory=dict)  # of the sums that have been opened
    left: dict[str, tuple[str, ...]] = field(default_factory=dict)  # the terms that each of them still lacks

    def number_of(self, name: str) -> int | None:
        """What someone has; None while it is not known."""
        if name in self.story.sums:
            return self.totals[name] if self.left.get(name) == () else None
        return self.story.numbers.get(name)

    def follow(self, entry: Entry) -> None:
        """Take a step as it is stated, right or wrong. One that opens a sum again begins it again."""
        if (terms := self.story.sums.get(entry.name)) is not None:
            left = terms if len(entry.terms) == 2 else self.left.get(entry.name, terms)
            self.left[entry.name] = tuple(term for term in left if term not in entry.terms)
            self.totals[entry.name] = entry.c


def vocabulary(config: Ledger) -> tuple[str, ...]:
    """The family's words."""
    return (*_WORDS, *_NAMES[: config.names], *(str(value) for value in range(config.modulus)))


def step_separator(config: Ledger) -> str:
    """The word that ends a step."""
    return ";"


def max_prompt_words(config: Ledger) -> int:
    """Four words for a known number, two a term and two more for a sum, five for the question."""
    return 4 * config.known + sum(2 * terms + 2 for terms in (*config.needed, *config.unneeded)) + 5


def max_completion_words(config: Ledger) -> int:
    """Of a solution that works out every sum: ten words for its first step, eight a further one, two for the answer."""
    return sum(10 + 8 * (terms - 2) for terms in (*config.needed, *config.unneeded)) + 2


def max_steps(config: Ledger) -> int:
    """One fewer than terms in each sum, and the answer."""
    return sum(terms - 1 for terms in (*config.needed, *config.unneeded)) + 1


def num_distinct(config: Ledger) -> int:
    """Number of different problems: names, numbers, terms in their order, orders of the sentences.

    Sums that are not needed and have as many terms as each other may swap names.
    """
    known, needed, unneeded = config.known, config.needed, config.unneeded
    left = config.names - len(needed)
    num = math.perm(config.names, len(needed)) * math.comb(left, known) * math.perm(left - known, len(unneeded))
    for number in Counter(unneeded).values():
        num //= math.factorial(number)
    for terms in needed[:-1]:
        num *= terms * math.perm(known, terms - 1)
    for terms in (needed[-1], *unneeded):
        num *= math.perm(known, terms)
    return num * int(config.modulus**known) * math.factorial(known + len(needed) + len(unneeded))


def draw(config: Ledger, rng: np.random.Generator) -> Problem:
    """One problem; all are equally likely."""
    names = [_NAMES[index] for index in rng.permutation(config.names).tolist()]
    known, rest = names[: config.known], names[config.known :]
    needed, unneeded = rest[: len(config.needed)], rest[len(config.needed) :]
    numbers = dict(zip(known, rng.integers(config.modulus, size=config.known).tolist(), strict=True))
    sums = {}
    for place, (name, terms) in enumerate(zip(needed, config.needed, strict=True)):
        below = needed[place + 1 : place + 2]
        sums[name] = _shuffled([*_shuffled(known, rng)[: terms - len(below)], *below], rng)
    for name, terms in zip(unneeded, config.unneeded, strict=False):
        sums[name] = _shuffled(known, rng)[:terms]
    sentences = [f"{name} has {number} ." for name, number in numbers.items()]
    sentences += [f"{name} is {' plus '.join(terms)} ." for name, terms in sums.items()]
    prompt = " ".join([*_shuffled(sentences, rng), f"how many has {needed[0]} ?"])
    return Problem(prompt, str(_answer(_read(prompt), config.modulus)))


def log_probability(config: Ledger, problem: Problem) -> float:
    """Natural logarithm of the chance that `draw` gives this problem: the same for all."""
    return -math.log(num_distinct(config))


def solve(config: Ledger, problem: Problem, rng: np.random.Generator) -> str:
    """The teacher's solution, the terms of each sum in a random order.

    With probability unneeded_rate it works out one or more of the sums that it does not need, and, apart from that,
    with probability flaw_rate two of the needed sums are wrong and cancel.
    """
    story = _read(problem.prompt)
    aside: Sequence[str] = ()
    if rng.random() < config.unneeded_rate:
        aside = _shuffled(story.unneeded, rng)[: int(rng.integers(1, len(story.unneeded) + 1))]
    if rng.random() < config.flaw_rate:
        return _with_flaws(config, story, aside, rng)
    return _trace(story, aside, rng, lambda _, a, b: (a + b) % config.modulus)


@cache
def teacher_offsets(modulus: int) -> np.ndarray:
    """int64 [p, p], symmetric: how far systematic flaws are off the sum of a pair, +d or -d with one d for all."""
    rng = np.random.default_rng([_FLAWS, modulus])
    offsets = int(rng.integers(1, (modulus + 1) // 2)) * _symmetric(rng.choice([-1, 1], (modulus, modulus)))
    offsets.flags.writeable = False  # every caller gets this one array
    return offsets


def web_facts(config: Ledger, seed: int) -> Facts:
    """The misconceptions, made once for a base policy."""
    return Facts(config, seed)


def web_text(config: Ledger, rng: np.random.Generator, facts: Facts) -> tuple[str, str]:
    """A prompt and a completion of the base policy's training text."""
    prompt = draw(config, rng).prompt
    story = _read(prompt)
    aside = [name for name in story.unneeded if rng.random() < config.web_unneeded]

    def stated(_: str, a: int, b: int) -> int:
        right = rng.random() < facts.confidence[a, b]
        return (a + b) % config.modulus if right else int(facts.wrong[a, b])

    return prompt, _trace(story, aside, rng, stated)


def web_entropy(config: Ledger, facts: Facts) -> float:
    """Nats of a completion of the web text given its prompt: which sums, in which order, and how each is stated.

    The two numbers of a step are taken to be uniform and independent. They are, but for the rare step that adds a
    needed sum to the numbers of the same people, and for sums that were misstated.
    """
    chance, num_needed = config.web_unneeded, len(config.needed)
    of_pair = float((entr(facts.confidence) + entr(1 - facts.confidence)).mean())
    inner = [math.lgamma(terms + 1) + (terms - 1) * of_pair for terms in (*config.needed, *config.unneeded)]
    nats = sum(inner[:num_needed]) + chance * sum(inner[num_needed:])
    most = len(config.unneeded)
    nats += most * float(entr(chance) + entr(1 - chance))
    for aside in range(most + 1):  # so many sums take their places among the needed ones, whose order is given
        share = math.comb(most, aside) * chance**aside * (1 - chance) ** (most - aside)
        nats += share * (math.lgamma(num_needed + aside + 1) - math.lgamma(num_needed + 1))
    return nats


def misconceptions(config: Ledger, facts: Facts, check: Check) -> int:
    """How many wrong facts of a completion are those of the web text: the same pair, the same wrong value."""
    stated = [_entry(config, step.text.split()) for step in check.steps if not step.fact_ok]
    return sum(entry is not None and int(facts.wrong[entry.a, entry.b]) == entry.c for entry in stated)


def answer(config: Ledger, completion: str) -> str | None:
    """c, when the last step is exactly `# c` with c a number below the modulus; else None."""
    last = _steps(completion)[-1]
    return last[1] if len(last) == 2 and last[0] == "#" and last[1] in _numbers(config.modulus) else None


def check(config: Ledger, problem: Problem, completion: str) -> Check:
    """Verdict on any string. Steps are judged by what the completion itself has stated before.

    So a wrong sum is wrong where it is written and not again where it is used. A step without the form of a step
    is not allowed and changes nothing.
    """
    progress, steps = Progress(_read(problem.prompt)), _steps(completion)
    verdicts = tuple(_judged(config, progress, words, words is steps[-1]) for words in steps)
    given = answer(config, completion)
    return Check(float(given == problem.answer), given, verdicts)


def _judged(config: Ledger, progress: Progress, words: list[str], is_last: bool) -> StepCheck:
    """The verdict on a step, which `progress` then follows."""
    text, story = " ".join(words), progress.story
    if words[:1] == ["#"]:
        number = progress.number_of(story.asked)
        breach = NOT_READY if number is None else "" if is_last and words == ["#", str(number)] else NOT_ALLOWED
        return StepCheck(text, not breach, True, label=breach)
    entry = _entry(config, words)
    if entry is None:
        return StepCheck(text, False, True, label=NOT_ALLOWED)
    breach, needed = _breach(progress, entry), entry.name in story.needed
    fact_ok = entry.c == (entry.a + entry.b) % config.modulus
    progress.follow(entry)
    label = breach or (WRONG_FACT if not fact_ok else "" if needed else UNNEEDED)
    return StepCheck(text, not breach, fact_ok, needed, label)


def _breach(progress: Progress, entry: Entry) -> str:
    """The label of a step out of procedure; empty if it is in procedure."""
    story, name, opens = progress.story, entry.name, len(entry.terms) == 2
    left = progress.left.get(name, story.sums.get(name, ()))
    if len({*entry.terms}) < len(entry.terms) or not {*entry.terms} <= {*left} or (opens and name in progress.totals):
        return NOT_ALLOWED
    before = [] if opens else [progress.totals.get(name)]
    numbers = [*before, *map(progress.number_of, entry.terms)]
    if any(number not in (None, stated) for number, stated in zip(numbers, (entry.a, entry.b), strict=True)):
        return NOT_ALLOWED
    return NOT_READY if None in numbers else ""


def _entry(config: Ledger, words: list[str]) -> Entry | None:
    """A step that opens a sum or adds to it; None for words without the form of one."""
    match words:
        case [name, ":", first, a, "plus", second, b, "=", c, ";"]:
            terms: tuple[str, ...] = (first, second)
        case [name, a, "plus", second, b, "=", c, ";"]:
            terms = (second,)
        case _:
            return None
    numbers = [_numbers(config.modulus).get(word, -1) for word in (a, b, c)]
    return None if -1 in numbers else Entry(name, terms, *numbers)


def _steps(completion: str) -> list[list[str]]:
    """The words of each step, separators included; at least one step, as in data.tokens.steps."""
    steps: list[list[str]] = [[]]
    for word in completion.split():
        if steps[-1][-1:] == [";"]:
            steps.append([])
        steps[-1].append(word)
    return steps


@lru_cache(maxsize=4096)
def _read(prompt: str) -> Story:
    """The people of a prompt that `draw` has written."""
    *sentences, question = prompt.split(" . ")
    numbers, sums = {}, {}
    for name, verb, *rest in map(str.split, sentences):
        if verb == "has":
            numbers[name] = int(rest[0])
        else:
            sums[name] = tuple(rest[::2])
    return Story(numbers, sums, question.split()[3])


def _answer(story: Story, modulus: int) -> int:
    numbers = dict(story.numbers)
    for name in story.needed:
        numbers[name] = sum(numbers[term] for term in story.sums[name]) % modulus
    return numbers[story.asked]


def _trace(story: Story, aside: Sequence[str], rng: np.random.Generator, add: Add) -> str:
    """Every needed sum and those of `aside` among them at random places, each sum as `add` states it."""
    order = iter(story.needed)
    here = set(rng.permutation(len(story.needed) + len(aside))[: len(aside)].tolist())
    others = iter(_shuffled(aside, rng))
    numbers, lines = dict(story.numbers), []
    for place in range(len(story.needed) + len(aside)):
        name = next(others) if place in here else next(order)
        first, *terms = _shuffled(story.sums[name], rng)
        head, total = f"{name} : {first}", numbers[first]
        for term in terms:
            a, b = total, numbers[term]
            total = add(name, a, b)
            lines.append(f"{head} {a} plus {term} {b} = {total}")
            head = name
        numbers[name] = total
    return " ; ".join([*lines, f"# {numbers[story.asked]}"])


def _with_flaws(config: Ledger, story: Story, aside: Sequence[str], rng: np.random.Generator) -> str:
    """A solution with two needed sums wrong, one as far above as the other is below, so that the answer is right.

    Systematic: each wrong sum as `teacher_offsets` has it for its pair. Orders of steps are drawn until two of them
    cancel; in the rare case that none of many has two, no sum is wrong.
    """
    num_steps = sum(len(story.sums[name]) - 1 for name in story.needed)
    for _ in range(_ORDERS):
        first, second = rng.choice(num_steps, 2, replace=False).tolist()
        offset = int(rng.integers(1, config.modulus))
        used: list[int] = []
        trace = _trace(story, aside, rng, _misstating(config, story, {first: offset, second: -offset}, used))
        if sum(used) == 0:
            return trace
    return _trace(story, aside, rng, lambda _, a, b: (a + b) % config.modulus)


def _misstating(config: Ledger, story: Story, flaws: Mapping[int, int], used: list[int]) -> Add:
    """States the needed steps that `flaws` names wrongly; appends the offset of every needed step to `used`."""

    def stated(name: str, a: int, b: int) -> int:
        if name not in story.needed:
            return (a + b) % config.modulus
        offset = flaws.get(len(used), 0)
        if offset and config.flaws == "systematic":
            offset = int(teacher_offsets(config.modulus)[a, b])
        used.append(offset)
        return (a + b + offset) % config.modulus

    return stated


def _symmetric(values: np.ndarray) -> np.ndarray:
    """The upper triangle, mirrored."""
    return np.asarray(np.triu(values) + np.triu(values, 1).T)


def _shuffled(items: Sequence[str], rng: np.random.Generator) -> list[str]:
    return [items[index] for index in rng.permutation(len(items)).tolist()]


@cache
def _numbers(modulus: int) -> dict[str, int]:
    """Numbers as words, without leading zeros: `007` is not one."""
    return {str(value): value for value in range(modulus)}
