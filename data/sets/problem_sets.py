"""The fixed validation and test problems of a family: one stage, shared by every run of a sweep.

In: the family's config, and the imported set of problems in plain language. Out: `validation.jsonl` and `test.jsonl`,
disjoint from every seed's stream of synthetic problems: the split of a drawn problem follows from a hash of its content
(data.sets.splits), that of a set's row from the set and a fixed seed (data.sets.finite_splits). Of a set also
`train.jsonl`, the pool that its training problems come from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.records import write_jsonl
from data.sets.finite_splits import parts
from data.sets.problem_pool import held_out_problems
from scaling.config.problems import problems_of
from scaling.config.text_problems import TextProblems


def run(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Draw both sets. config: problems; inputs: source of a set in plain language."""
    problems = problems_of(config)
    numbers = {}
    for split, drawn in held_out_problems(problems, inputs).items():
        write_jsonl(out / f"{split}.jsonl", ({"prompt": item.prompt, "answer": item.answer} for item in drawn))
        numbers[f"num_{split}"] = float(len(drawn))
    if isinstance(problems, TextProblems):  # a chat model writes its own from these
        pool = parts(problems, inputs["source"]).train
        write_jsonl(out / "train.jsonl", ({"prompt": item.prompt, "answer": item.answer} for item in pool))
        numbers["num_train"] = float(len(pool))
    return numbers
