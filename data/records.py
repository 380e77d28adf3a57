"""The records that problems travel in, and the verdict on a completion; read from and written to JSON lines.

In: nothing but values. Out: `Problem`, `StepCheck` and `Check`, and a plain JSON-lines reader and writer.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ErrorKind = Literal["none", "fact", "procedure", "unknown"]


@dataclass(frozen=True)
class Problem:
    """A prompt with its reference answer. Those of the embedded families are words separated by single spaces."""

    prompt: str
    answer: str
    solution: str | None = None  # the set's own, or the teacher's

    @property
    def key(self) -> str:
        """Sixteen hex digits of the prompt's sha256: the problem's identity, independent of where it was drawn."""
        return hashlib.sha256(self.prompt.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class StepCheck:
    """The verdict on one step of a completion. None if the family cannot judge it, as in plain language."""

    text: str  # the step's words, its separator included: the texts of all steps join to the completion
    procedure_ok: bool | None  # the step is one that the procedure allows where it stands
    fact_ok: bool | None  # the fact it states is true; a step that states none has no wrong fact
    needed: bool = True  # the answer depends on it; a family in which every allowed step is needed leaves this out
    label: str = ""  # what is amiss with it, in words, where the family tells more than the three fields above

    @property
    def correct(self) -> bool | None:
        """Whether it is right, needed or not."""
        return None if self.procedure_ok is None or self.fact_ok is None else self.procedure_ok and self.fact_ok

    @property
    def spurious(self) -> bool | None:
        """Whether it is wrong or not needed; what a right answer does not come from."""
        return None if self.correct is None else not (self.correct and self.needed)


@dataclass(frozen=True)
class Check:
    """The verdict on a completion. The reward looks at the answer alone, the steps show how it was reached."""

    reward: float  # 1.0 when the answer equals the reference, else 0.0
    answer: str | None  # None when the completion gives none
    steps: tuple[StepCheck, ...]  # at least one: an empty completion is one empty step

    @property
    def steps_are_judged(self) -> bool:
        """Whether the steps are judged."""
        return all(step.correct is not None for step in self.steps)

    @property
    def num_wrong_facts(self) -> int | None:
        """None if steps are not judged, like the next four."""
        return sum(not step.fact_ok for step in self.steps) if self.steps_are_judged else None

    @property
    def num_procedure_errors(self) -> int | None:
        return sum(not step.procedure_ok for step in self.steps) if self.steps_are_judged else None

    @property
    def wrong_steps(self) -> int | None:
        return sum(not step.correct for step in self.steps) if self.steps_are_judged else None

    @property
    def spurious_steps(self) -> int | None:
        """Wrong and unneeded steps in a completion whose answer is right; 0 when the answer is wrong."""
        if not self.steps_are_judged:
            return None
        return sum(bool(step.spurious) for step in self.steps) if self.reward == 1.0 else 0

    @property
    def error_kind(self) -> ErrorKind:
        """What is wrong with the completion, right answer or not; a missing answer is an error of procedure.

        Where steps are not judged: `unknown` for a wrong answer, and `none` for a right one however it was reached.
        """
        if self.num_procedure_errors or self.answer is None:
            return "procedure"
        if not self.steps_are_judged:
            return "none" if self.reward == 1.0 else "unknown"
        return "fact" if self.num_wrong_facts else "none"


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """One JSON object a line, in UTF-8."""
    with Path(path).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(dict(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def read_jsonl(path: Path, keys: Collection[str] = ()) -> list[dict[str, Any]]:
    """Every row of a JSON-lines file, in order; each an object with at least these keys."""
    rows = []
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path}, line {number} is {line[:60]!r}, not a JSON object ({error.msg}); the file is cut short or"
                    " was edited: delete its artifact and run the sweep again."
                ) from error
            missing = [key for key in keys if not isinstance(row, dict) or key not in row]
            if missing:
                raise ValueError(
                    f"{path}, line {number} is {line[:60]!r}, a row without {missing[0]!r} ({sorted(keys)} are"
                    " required): another stage wrote the file or it was edited, delete its artifact and run the sweep"
                    " again."
                )
            rows.append(row)
    return rows


def read_problems(path: Path) -> list[Problem]:
    """The problem of every row, in order; its solution is the completion, if the row has one."""
    rows = read_jsonl(path, keys=("prompt", "answer"))
    return [Problem(row["prompt"], row["answer"], row.get("completion")) for row in rows]


def load_problems(directory: Path, split: str) -> list[Problem]:
    """The problems of one split of an artifact that holds the problems of every split, in order."""
    return read_problems(directory / f"{split}.jsonl")
