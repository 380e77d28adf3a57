"""The two prompts that a chat model is asked with, and the reading of its replies.

In: a seed problem's text, or a question. Out: the text to send; and a reply's fields, or None where one is missing.
The first prompt has a new question written, worked through and revised at once, the second has it solved. Both follow
the recipe and the five rules of Xwin-Math (Li et al. 2024, arXiv 2403.04706), in our words.
"""

import re
from collections.abc import Sequence

WRITE_FIELDS = ("CREATED QUESTION", "VERIFICATION AND MODIFICATION", "FINAL QUESTION")
ANSWER_FIELD = "FINAL ANSWER"
SOLVE_FIELDS = ("SOLUTION", ANSWER_FIELD)

_WRITE = """\
You are a careful teacher of mathematics who writes practice problems. From the given question, write a new one that \
is similar but different: another situation, other numbers, or another thing that is asked for.

Do three things, in this order:
1. Write the new question.
2. Check it: solve it step by step, and look whether it keeps every rule below.
3. Revise it where the check found something wrong.

Rules:
- It asks for exactly one definite thing, and its answer is {answer_kind}.
- It agrees with common sense: amounts are positive, people and things come in whole numbers, nothing is contradictory.
- It stands alone: whoever reads it has not seen the given question, so repeat every number and fact that is needed.
- It holds no part of its own solution.
- When the check finds nothing wrong, leave it exactly as it is.

Given question:
{question}

Answer in this form, with nothing before or after it:
{form}"""

_WRITE_FORM = """\
CREATED QUESTION: <the new question>
VERIFICATION AND MODIFICATION: <its step-by-step solution, the check, and what you change>
FINAL QUESTION: <the question as it is to stand>"""

_WRITE_ANSWER = """
FINAL ANSWER: <the answer to the final question, and nothing else>"""

_SOLVE = """\
You are a careful teacher of mathematics who writes model solutions. Solve the given question step by step, one step a \
line, each line a full sentence with its calculation. The final answer is {answer_kind}.

Given question:
{question}

Answer in this form, with nothing before or after it:
SOLUTION: <the steps, one a line>
FINAL ANSWER: <the answer, and nothing else>"""

_HEADINGS = "|".join(re.escape(name) for name in (*WRITE_FIELDS, *SOLVE_FIELDS))
# Models like to set headings in bold or as titles of Markdown.
_HEADING = re.compile(rf"^[ \t#>*_]*({_HEADINGS})[ \t*_]*:[ \t*_]*", re.IGNORECASE | re.MULTILINE)
_REFUSAL = re.compile(
    r"^\W*(i'?m sorry|i am sorry|sorry|i apologi[sz]e|i can'?t|i cannot|i'?m unable|i am unable|i won'?t|i'?m not able"
    r"|as an ai)\b",
    re.IGNORECASE,
)


def write_prompt(question: str, answer_kind: str, with_answer: bool) -> str:
    """Ask for a new question like this one; with_answer: also for the answer that its writer found."""
    form = _WRITE_FORM + (_WRITE_ANSWER if with_answer else "")
    return _WRITE.format(answer_kind=answer_kind, question=question.strip(), form=form)


def solve_prompt(question: str, answer_kind: str) -> str:
    """Ask for a step-by-step solution."""
    return _SOLVE.format(answer_kind=answer_kind, question=question.strip())


def read_written(reply: str, with_answer: bool) -> dict[str, str] | None:
    """The fields of a reply to `write_prompt`, or None when one is missing, empty or out of order."""
    return _fields(reply, (*WRITE_FIELDS, ANSWER_FIELD) if with_answer else WRITE_FIELDS)


def read_solved(reply: str) -> dict[str, str] | None:
    """The fields of a reply to `solve_prompt`, or None when one is missing, empty or out of order."""
    return _fields(reply, SOLVE_FIELDS)


def is_refusal(reply: str) -> bool:
    """Whether a reply opens as models do that will not answer."""
    return _REFUSAL.match(reply.replace("’", "'")) is not None


def _fields(reply: str, names: Sequence[str]) -> dict[str, str] | None:
    """The text after each heading, up to the next one. A check may quote headings: the last of each name counts."""
    found = [match for match in _HEADING.finditer(reply) if match[1].upper() in names]
    last = {match[1].upper(): match for match in found}
    if tuple(sorted(last, key=lambda name: last[name].start())) != tuple(names):
        return None
    starts = [match.start() for match in found] + [len(reply)]
    fields = {}
    for name, match in last.items():
        end = min(start for start in starts if start > match.start())
        fields[name] = reply[match.end() : end].strip().strip("*").strip()
    return fields if all(fields.values()) else None
