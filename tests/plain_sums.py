"""A tiny family in plain language and a writer of it, for tests of the chat teacher: sums of apples.

`writer` answers both prompts as a model would. What it says depends on the request alone, its seed included, so that a
run that was killed and an unbroken one must agree.
"""

import random
import re
from collections.abc import Mapping

from data.records import Problem
from data.teacher.subject import Subject

NAMES = (
    "Ann Bob Cem Dua Eli Fay Gus Hal Ida Jon Kim Lea Max Nia Ola Pia Quy Ray Sam Tea Uma Vic Wes Xia Yan Zoe".split()
)
THINGS = "apples books coins dates eggs figs gems hats inks jars keys lamps mugs nuts oars pens".split()
PLACES = "shop fair barn park dock yard mill farm port camp".split()
SUM = re.compile(r"has (\d+) .* buys (\d+)", re.IGNORECASE)


def question_of(rng: random.Random) -> str:
    """One of 26 x 16 x 10 x 80 x 80 questions; two drawn at random share few word triples."""
    name, thing, place = rng.choice(NAMES), rng.choice(THINGS), rng.choice(PLACES)
    first, second = rng.randint(10, 89), rng.randint(10, 89)
    return (
        f"{name} has {first} {thing} at the {place} and buys {second} of them there. How many {thing} has {name} now?"
    )


def writer(body: Mapping) -> str:
    """What a capable model says to either prompt."""
    prompt, rng = body["messages"][0]["content"], random.Random(body["seed"])
    if "CREATED QUESTION" in prompt:
        question = question_of(rng)
        reply = f"CREATED QUESTION: {question}\nVERIFICATION AND MODIFICATION: It is good.\nFINAL QUESTION: {question}"
        return f"{reply}\nFINAL ANSWER: {total(question)}" if "FINAL ANSWER" in prompt else reply
    return f"SOLUTION: First there are some.\nThen more come.\nFINAL ANSWER: {total(prompt)}"


def total(question: str) -> int:
    return sum(int(number) for number in SUM.search(question).groups())


def subject(num_seeds: int = 20, held_out: Mapping = {}) -> Subject:
    """The family."""
    rng = random.Random(0)
    questions = [question_of(rng) for _ in range(num_seeds)]
    return Subject(
        seeds=[Problem(question, str(total(question))) for question in questions],
        held_out={"validation": [], "test": [], **held_out},
        answer_kind="a single number",
        prompt=lambda question: f"{question}\n\nEnd with #### and the number.",
        completion=lambda solution, answer: f"{solution}\n#### {answer}",
        answer=answer,
        is_right=lambda problem, completion: answer(completion) == problem.answer,
    )


def answer(completion: str) -> str | None:
    found = re.findall(r"^#### (-?\d+)$", completion, re.MULTILINE)
    return found[-1] if found else None
