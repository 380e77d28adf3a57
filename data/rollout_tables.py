"""Tables with one row a rollout: verified, read back from the artifacts that hold them, and the right ones of them.

In: rollouts and problems, or artifacts. Out: data frames, whose `problem` and `sample` name the rollout. Reading
checks that tables that belong together have the same rollouts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from data.problems.families import family_of
from data.records import Problem, read_problems
from data.rewards import reward, verifier_of
from data.tokens.answer_end import up_to_answer
from data.tokens.tokenizer import AnyTokenizer, tokenizer_of
from scaling.config.problems import Problems, problems_of

ROLLOUT_ID = ["problem", "sample"]  # identifies a rollout in every table


@dataclass(frozen=True)
class Verified:
    """D_syn and its verified rollouts: what every stage reads that chooses data for a learner."""

    problems: Problems
    tokenizer: AnyTokenizer
    synthetic: list[Problem]  # with the teacher's solutions
    rollouts: pd.DataFrame  # see load_verified; up to their answers
    ended: Callable[[Sequence[int]], list[int]]  # a completion up to its answer

    def prompt(self, problem: int) -> list[int]:
        """The tokens of a problem's prompt."""
        return self.tokenizer.encode_prompt(self.synthetic[problem].prompt)

    def traces(self, step_values: Path) -> pd.DataFrame:
        """See load_step_values."""
        return load_step_values(step_values, self.rollouts)


def read_verified(config: Mapping[str, Any], inputs: Mapping[str, Path]) -> Verified:
    """config: problems; inputs: synthetic, rollouts, verification, and tokenizer if imported."""
    problems = problems_of(config)
    synthetic = read_problems(inputs["synthetic"] / "synthetic.jsonl")
    rollouts, tokenizer = load_verified(inputs["rollouts"], inputs["verification"]), tokenizer_of(problems, inputs)
    ended = up_to_answer(problems, tokenizer)
    return Verified(problems, tokenizer, synthetic, with_tokens(rollouts, ended), ended)


def with_tokens(table: pd.DataFrame, change: Callable[[Sequence[int]], list[int]]) -> pd.DataFrame:
    """The table with every completion changed."""
    return table.assign(tokens=list(map(change, table["tokens"])))


def verdicts(
    config: Mapping[str, Any], inputs: Mapping[str, Path], synthetic: Sequence[Problem], rollouts: pd.DataFrame
) -> pd.DataFrame:
    """A row a rollout, in the same order: problem, sample, reward, answer, and what is wrong with its steps.

    config: problems, and verifier unless it is exact; inputs: tokenizer if imported.
    """
    settings, verifier = problems_of(config), verifier_of(config)
    tokenizer, family = tokenizer_of(settings, inputs), family_of(settings)
    rows = []
    for problem, sample, tokens in zip(rollouts["problem"], rollouts["sample"], rollouts["tokens"], strict=True):
        completion = tokenizer.decode(tokens)
        check = family.check(settings, synthetic[problem], completion)
        given = reward(verifier, synthetic[problem], completion, check)
        rows.append(
            {
                "problem": problem,
                "sample": sample,
                "reward": given,
                "answer": check.answer,
                "num_steps": len(check.steps),
                "num_wrong_facts": check.num_wrong_facts,
                "num_procedure_errors": check.num_procedure_errors,
                "spurious_steps": replace(check, reward=given).spurious_steps,
                **({} if verifier.is_exact else {"right": check.reward == 1.0}),
            }
        )
    judged = ("num_wrong_facts", "num_procedure_errors", "spurious_steps")
    return pd.DataFrame(rows).astype(dict.fromkeys(judged, "Int64"))


def load_rollouts(directory: Path) -> pd.DataFrame:
    """Columns problem, sample, tokens (lists of int), logp; sorted by problem and sample."""
    frame = pd.read_parquet(directory / "rollouts.parquet")
    frame["tokens"] = [list(map(int, tokens)) for tokens in frame["tokens"]]
    return frame


def load_verified(rollouts: Path, verification: Path) -> pd.DataFrame:
    """Rollouts with their verdicts, one row each: the rollouts' columns and the verification's."""
    own_file, verdicts_file = rollouts / "rollouts.parquet", verification / "verification.parquet"
    own, verdicts = load_rollouts(rollouts), pd.read_parquet(verdicts_file)
    require_rows(verdicts, verdicts_file, own, own_file)
    require_rows(own, own_file, verdicts, verdicts_file)
    return own.merge(verdicts, on=ROLLOUT_ID, validate="one_to_one")


def load_step_values(directory: Path, verified: pd.DataFrame) -> pd.DataFrame:
    """The traces with their tokens again: problem, sample, reward, step_ends, q_values, prompt_value, tokens."""
    table = pd.read_parquet(directory / "step_values.parquet")
    table["step_ends"] = [list(map(int, ends)) for ends in table["step_ends"]]
    table["q_values"] = [[None if pd.isna(q) else float(q) for q in q_values] for q_values in table["q_values"]]
    require_rows(verified, "the table of verified rollouts", table, directory / "step_values.parquet")
    if "tokens" in table:  # they end before those of the rollouts
        return with_tokens(table, lambda tokens: list(map(int, tokens)))
    return table.merge(verified[[*ROLLOUT_ID, "tokens"]], on=ROLLOUT_ID, validate="one_to_one")


def right_rollouts(verified: pd.DataFrame) -> dict[int, list[list[int]]]:
    """The different correct rollouts of each problem that has any, in order."""
    return {problem: different(tokens) for problem, tokens in rewarded(verified, "problem").items()}


def positives_by_problem(verified: Verified, with_teachers: bool = True) -> list[list[list[int]]]:
    """For each problem its correct rollouts and the teacher's solution, unless that is wrong or one of them."""
    family, own = family_of(verified.problems), right_rollouts(verified.rollouts)

    def teachers(problem: Problem) -> list[list[int]]:
        assert problem.solution is not None  # those of D_syn have one
        right = with_teachers and family.check(verified.problems, problem, problem.solution).reward
        return [verified.tokenizer.encode_completion(problem.solution)] if right else []

    return [different([*own.get(index, []), *teachers(problem)]) for index, problem in enumerate(verified.synthetic)]


def rewarded(table: pd.DataFrame, by: str | list[str]) -> dict[Any, list[list[int]]]:
    """The tokens of rewarded rows, by key."""
    right = table[table["reward"] == 1.0]
    return {key: [list(map(int, tokens)) for tokens in found] for key, found in right.groupby(by)["tokens"]}


def by_problem(table: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Each problem with its rows, in the order of the problems."""
    for _, rows in table.groupby("problem", sort=True):
        yield int(rows["problem"].iloc[0]), rows


def different(completions: Iterable[Sequence[int]]) -> list[list[int]]:
    """The distinct completions, in order of first appearance."""
    return [list(tokens) for tokens in dict.fromkeys(map(tuple, completions))]


def require_rows(table: pd.DataFrame, place: Path | str, other: pd.DataFrame, other_place: Path | str) -> None:
    """Raise unless `table` has one row for each rollout that has one in `other`. The places are for the message."""
    index, wanted = (pd.MultiIndex.from_frame(frame[ROLLOUT_ID]) for frame in (table, other))
    for wrong, what in (
        (index[index.duplicated()], f"{place} has more than one row"),
        (wanted[wanted.duplicated()], f"{other_place} has more than one row"),
        (wanted[~wanted.isin(index)], f"{place} has no row, but {other_place} has one,"),
    ):
        if len(wrong):
            problem, sample = wrong[0]
            raise ValueError(
                f"{what} for {len(wrong)} rollouts, the first of them problem {problem}, sample {sample}; expected one"
                " row a rollout in both. One of them was edited or belongs to other rollouts: delete both artifacts"
                " and run the sweep again."
            )
