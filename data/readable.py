"""The contents of artifacts as readable text: problems, solutions, rollouts, step values, pairs.

In: a family's config, a tokenizer, and artifacts. Out: `Example`s, each a problem with completions cut into steps. A
step says whether it is wrong, if the family judges steps, and what is amiss with it, if the family tells; its Q and
advantage, if they were estimated; and whether it is the first pit.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from etils import epath

from data.problems.families import family_of
from data.q_values import first_pit
from data.records import Problem, load_problems
from data.rollout_tables import by_problem, load_step_values, load_verified
from data.tokens.steps import step_cutter
from data.tokens.tokenizer import AnyTokenizer
from scaling.config.problems import Problems


@dataclass(frozen=True)
class Step:
    """One step of a completion."""

    text: str
    wrong: bool | None = None  # None: the family does not judge steps
    q: float | None = None  # chance to end right after it
    advantage: float | None = None  # what the step adds to that chance
    pit: bool = False  # the first pit of a negative
    weight: float | None = None  # in the learner's loss; 0: it is read, not learned
    label: str = ""  # what is amiss with it, where the family tells: such as "unneeded", of a right step

    @property
    def flawed(self) -> bool:
        """Whether it is known to be wrong or not needed."""
        return bool(self.wrong or self.label)


@dataclass(frozen=True)
class Written:
    """One completion."""

    who: str  # such as "teacher", "sample 3", "chosen"
    steps: tuple[Step, ...]
    right: bool | None = None  # whether its answer is accepted; None if not judged
    answer: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Example:
    """A problem with its completions."""

    problem: str  # its index or key
    prompt: str
    answer: str
    completions: tuple[Written, ...] = ()


def as_json(example: Example) -> dict[str, Any]:
    """The example as plain values, without labels that are empty."""
    return asdict(
        example, dict_factory=lambda items: {key: item for key, item in items if (key, item) != ("label", "")}
    )


def about(written: Written) -> str:
    """What is known of a completion: its answer, its spurious steps."""
    judged = [step.wrong for step in written.steps]
    facts = [f"answer {written.answer}"] if written.answer is not None else []
    if written.right is not None and None in judged:
        facts.append("steps not judged")
    elif written.right and (spurious := sum(step.flawed for step in written.steps)):
        facts.append(f"{spurious} spurious steps")
    return "; ".join([*facts, *([written.note] if written.note else [])])


def marks(step: Step) -> str:
    """What is known of a step: Q, advantage, weight, what is amiss with it, whether it is the first pit."""
    found = [f"Q {step.q:.2f}"] if step.q is not None else []
    found += [f"weight {step.weight:.2f}"] if step.weight is not None else []
    found += [f"A {step.advantage:+.2f}"] if step.advantage is not None else []
    found += [step.label or "wrong step"] if step.flawed else []
    return ", ".join([*found, *(["<- first pit"] if step.pit else [])])


@dataclass(frozen=True)
class Reader:
    """Turns tokens into steps."""

    settings: Problems
    tokenizer: AnyTokenizer

    def written(self, who: str, problem: Problem, text: str, right: bool | None = None, note: str = "") -> Written:
        """A completion from its text; right: its reward, by default that of an exact verifier."""
        check = family_of(self.settings).check(self.settings, problem, text)
        steps = tuple(
            Step(step.text, None if step.correct is None else not step.correct, label=step.label)
            for step in check.steps
        )
        return Written(who, steps, check.reward == 1.0 if right is None else right, check.answer, note)

    def ends(self, tokens: Sequence[int]) -> list[int]:
        """The offset at which each step of a completion ends."""
        return step_cutter(self.settings, self.tokenizer)(tokens)

    def begun(self, problem: Problem, context: Iterable[int]) -> tuple[list[int], list[str]]:
        """What a context has behind the problem's prompt: the tokens, and the texts of their steps."""
        tokens = list(map(int, context))[len(self.tokenizer.encode_prompt(problem.prompt)) :]
        return tokens, self.cut(tokens) if tokens else []

    def cut(self, tokens: Sequence[int]) -> list[str]:
        """The texts of the steps of a completion."""
        ends = self.ends(tokens)
        return [self.tokenizer.decode(tokens[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def problems(folder: Path, split: str) -> Iterator[Example]:
    """The held-out problems."""
    for problem in load_problems(folder, split):
        yield Example(problem.key, problem.prompt, problem.answer)


def logged(policy: Path | epath.Path) -> list[dict[str, Any]] | None:
    """What a policy's own training logged, update by update; None for one that was not trained by this project."""
    file = policy / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else None


def solutions(reader: Reader, synthetic: Path) -> Iterator[Example]:
    """D_syn: the problems with the teacher's solutions."""
    for index, problem in enumerate(load_problems(synthetic, "synthetic")):
        written = reader.written("teacher", problem, str(problem.solution))
        yield Example(str(index), problem.prompt, problem.answer, (written,))


def rollouts(reader: Reader, synthetic: Path, sampled: Path, verification: Path) -> Iterator[Example]:
    """The problems of D_syn with the policy's completions, each as the verifier judged it."""
    known = load_problems(synthetic, "synthetic")
    for index, rows in by_problem(load_verified(sampled, verification)):
        problem = known[index]
        found = [
            reader.written(f"sample {row.sample}", problem, reader.tokenizer.decode(row.tokens), row.reward == 1.0)
            for row in rows.itertuples()
        ]
        yield Example(str(index), problem.prompt, problem.answer, tuple(found))


def values(
    reader: Reader, synthetic: Path, sampled: Path, verification: Path, step_values: Path, rule: str
) -> Iterator[Example]:
    """The traces whose steps have values, with Q and the advantage of each step, and the first pit of negatives."""
    known = load_problems(synthetic, "synthetic")
    table = load_step_values(step_values, load_verified(sampled, verification))
    for index, rows in by_problem(table):
        problem = known[index]
        found = [_valued(reader, problem, row, rule) for row in rows.to_dict("records")]
        yield Example(str(index), problem.prompt, problem.answer, tuple(found))


def pairs(reader: Reader, synthetic: Path, folder: Path) -> Iterator[Example]:
    """Preference pairs: context, chosen and rejected."""
    known = load_problems(synthetic, "synthetic")
    for row in pd.read_parquet(folder / "pairs.parquet").itertuples():
        problem = known[int(row.problem)]
        given, begun = reader.begun(problem, row.context)
        shared = (Written("both begin", tuple(map(Step, begun))),) if given else ()
        sides = []
        for who, tokens in (("chosen", row.chosen), ("rejected", row.rejected)):
            texts = reader.cut([*given, *map(int, tokens)])[len(begun) :]
            sides.append(Written(who, tuple(map(Step, texts))))
        yield Example(str(row.problem), problem.prompt, problem.answer, (*shared, *sides))


def learned(reader: Reader, synthetic: Path, rows: Path) -> Iterator[Example]:
    """What a learner without pairs trains on: completions with a weight a step, or desirable and undesirable ones."""
    known = load_problems(synthetic, "synthetic")
    for index, group in by_problem(pd.read_parquet(rows)):
        problem = known[index]
        found = [_learned(reader, problem, row) for row in group.to_dict("records")]
        yield Example(str(index), problem.prompt, problem.answer, tuple(found))


def wrong(
    reader: Reader, folder: Path, split: str, outcomes: Path, complete: Callable[[list[Problem]], list[str]]
) -> Iterator[Example]:
    """The test problems that a policy gets wrong, with its greedy completions.

    complete: samples them again if an older evaluation did not keep them.
    """
    known = {problem.key: problem for problem in load_problems(folder, split)}
    table = pd.read_parquet(outcomes / "outcomes.parquet")
    failed = [known[key] for key in table.loc[table["wrong"] == 1, "problem"]]
    kept = outcomes / "completions.parquet"
    if kept.is_file():
        tokens = pd.read_parquet(kept).set_index("problem")["tokens"]
        texts = [reader.tokenizer.decode(map(int, tokens[problem.key])) for problem in failed]
    else:
        texts = complete(failed)
    for problem, text in zip(failed, texts, strict=True):
        yield Example(problem.key, problem.prompt, problem.answer, (reader.written("greedy", problem, text),))


def _learned(reader: Reader, problem: Problem, row: Mapping[Hashable, Any]) -> Written:
    if "desirable" in row:  # a completion, or one step and what comes before it
        given, begun = reader.begun(problem, row["context"])
        texts = reader.cut([*given, *map(int, row["completion"])])
        steps = [Step(text, weight=0.0 if place < len(begun) else None) for place, text in enumerate(texts)]
        return Written("desirable" if row["desirable"] else "undesirable", tuple(steps))
    tokens = list(map(int, row["tokens"]))
    if "mask" not in row:
        return Written("positive", tuple(map(Step, reader.cut(tokens))))
    weights = [float(row["mask"][end - 1]) for end in reader.ends(tokens)]
    steps = [Step(text, weight=weight) for text, weight in zip(reader.cut(tokens), weights, strict=True)]
    return Written("trace", tuple(steps))


def _valued(reader: Reader, problem: Problem, row: Mapping[Hashable, Any], rule: str) -> Written:
    tokens, q_values, right = list(row["tokens"]), list(row["q_values"]), row["reward"] == 1.0
    judged = reader.written("", problem, reader.tokenizer.decode(tokens), right)
    texts = reader.cut(tokens)
    alike = len(judged.steps) == len(texts)  # a verdict on steps is shown where both cut alike
    before: float | None = float(row["prompt_value"])
    pit = None if right else first_pit(q_values, float(row["prompt_value"]), rule)
    steps = []
    for place, (text, q) in enumerate(zip(texts, q_values, strict=True)):
        advantage = None if q is None or before is None else q - before
        wrong, label = (judged.steps[place].wrong, judged.steps[place].label) if alike else (None, "")
        steps.append(Step(text, wrong, q, advantage, place == pit, label=label))
        before = q
    note = f"chance from the bare prompt {row['prompt_value']:.2f}"
    return Written(f"sample {row['sample']}", tuple(steps), right, judged.answer, note)
