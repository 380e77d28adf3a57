"""D_syn: synthetic problems with the teacher's verified solutions.

In: the family's config, the teacher's, a size and a seed; of problems in plain language the imported set, or for a chat
model the problems of every split. Out: `synthetic.jsonl`, one row a problem: prompt, answer, completion; of a chat
model also origin (teacher, model, seed problem, attempt), and `rejected.jsonl`, the attempts that gave no problem, with
their reasons. The sizes of a seed are nested.
"""

from collections.abc import Mapping
from pathlib import Path

from data.records import write_jsonl
from data.teacher import procedural_teacher
from scaling.config.problems import Problems
from scaling.config.section import parse
from scaling.config.teacher import joined


def run(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    """Write D_syn. config: problems, teacher, data_size, seed; of a chat model also asking, which changes no result."""
    problems, teacher = parse(Problems, config["problems"]), joined(config["teacher"], config.get("asking", {}))
    if not teacher.named:
        rows, numbers = procedural_teacher.solved(problems, teacher, inputs, config["data_size"], config["seed"])
        write_jsonl(out / "synthetic.jsonl", rows)
        return numbers
    from data.teacher.rows import taught  # needs the extra `teacher`
    from data.teacher.subject import subject_of

    subject = subject_of(problems, inputs)
    judged, numbers = taught(teacher, subject, config["data_size"], config["seed"], Path(teacher.ledger))
    write_jsonl(out / "synthetic.jsonl", judged.rows)
    write_jsonl(out / "rejected.jsonl", judged.rejected)
    return numbers
