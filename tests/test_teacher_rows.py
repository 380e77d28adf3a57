"""The chat teacher against a real server: verified rows, reasons, nested sizes, and runs that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

pytest.importorskip("httpx")
pytest.importorskip("tenacity")

from chat_server import KEY, ChatServer, Fault
from plain_sums import question_of, subject, total, writer

from data import http_requests
from data.records import Problem
from data.teacher.protocol import TeacherError
from data.teacher.rows import taught
from scaling.config.teacher import Teacher

CHILDS = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
ONE = {"model": "big", "api_key_env": None, "usd_per_million_input_tokens": 2.0, "usd_per_million_output_tokens": 10.0}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(http_requests, "BACKOFF_SECONDS", 0.001)


def teach(server, folder, data_size=12, seed=0, about=None, **changes):
    """The judged attempts and the numbers."""
    teacher = Teacher.model_validate({**ONE, "endpoint": server.url, **changes})
    return taught(teacher, about or subject(), data_size, seed, folder)


def is_write(body) -> bool:
    return "CREATED QUESTION" in body["messages"][0]["content"]


def nth(kind, faults):
    """A script with a fault at the n-th request of a kind: to write a question, or to solve one."""
    counted = Counter()

    def script(body):
        if is_write(body) != (kind == "write"):
            return None
        counted["seen"] += 1
        return faults.get(counted["seen"] - 1)

    return script


def test_rows_are_verified_with_the_familys_prompt_and_completion_and_their_origin(tmp_path):
    with ChatServer(writer) as server:
        judged, numbers = teach(server, tmp_path)
        assert server.violations == []
    assert len(judged.rows) == 12 and judged.rejected == []
    for index, row in enumerate(judged.rows):
        question, instruction = row["prompt"].split("\n\n")
        assert row["answer"] == str(total(question)) and instruction == "End with #### and the number."
        assert row["completion"] == f"First there are some.\nThen more come.\n#### {row['answer']}"
        assert row["origin"] == {
            "teacher": "big",
            "model": "big-2026-11-24",
            "seed_problem": row["origin"]["seed_problem"],
            "attempt": index,
        }
    assert len({row["origin"]["seed_problem"] for row in judged.rows}) == 12
    assert numbers["num_requests"] == numbers["num_new_requests"] == 36 == len(server.bodies)
    cost = (2.0 * numbers["num_input_tokens"] + 10.0 * numbers["num_output_tokens"]) / 1e6
    assert numbers["cost_usd"] == pytest.approx(cost) == numbers["new_cost_usd"]


def test_sizes_are_nested_and_the_larger_pays_for_the_difference_only(tmp_path):
    with ChatServer(writer) as server:
        small, _ = teach(server, tmp_path / "one", 8)
        assert len(server.bodies) == 24
        large, numbers = teach(server, tmp_path / "one", 20)
        assert len(server.bodies) == 60 and numbers["num_new_requests"] == 36 and numbers["num_requests"] == 60
        again, numbers = teach(server, tmp_path / "one", 8)
        assert len(server.bodies) == 60 and numbers["num_new_requests"] == 0 and numbers["new_cost_usd"] == 0.0
        elsewhere, _ = teach(server, tmp_path / "other", 20)
    assert small.rows == again.rows == large.rows[:8] == elsewhere.rows[:8]
    assert large.rows == elsewhere.rows


def test_rows_do_not_depend_on_the_order_of_arrival(tmp_path):
    with ChatServer(writer, lambda body: Fault(hang_seconds=body["seed"] % 7 / 50)) as server:
        shuffled, _ = teach(server, tmp_path / "shuffled", max_concurrency=8)
    with ChatServer(writer) as server:
        one_by_one, _ = teach(server, tmp_path / "one", max_concurrency=1)
    assert shuffled.rows == one_by_one.rows


def test_another_seed_gives_other_rows(tmp_path):
    with ChatServer(writer) as server:
        first, other = (teach(server, tmp_path, seed=seed)[0] for seed in (0, 1))
    assert not {row["prompt"] for row in first.rows} & {row["prompt"] for row in other.rows}


REFUSALS = "I’m sorry, but I can't help with that."


@pytest.mark.parametrize(
    ("kind", "fault", "reason"),
    [
        ("write", Fault(content=REFUSALS), "refusal"),
        ("write", Fault(content=None, refusal="I will not."), "refusal"),
        ("write", Fault(finish_reason="length"), "truncated"),
        ("write", Fault(content=""), "empty"),
        ("write", Fault(content=None), "empty"),
        ("write", Fault(content=None, finish_reason="content_filter"), "content_filter"),
        ("write", Fault(400, error={"error": {"message": "no", "code": "content_filter"}}), "content_filter"),
        ("write", Fault(content="FINAL QUESTION: How many?"), "malformed"),
        ("solve", Fault(content="It is 12."), "malformed"),
        ("solve", Fault(content="SOLUTION: Add.\nFINAL ANSWER: many"), "no_answer"),
        ("solve", Fault(content="SOLUTION: Add.\nFINAL ANSWER: 1"), "disagreement"),
        ("solve", Fault(finish_reason="length"), "truncated"),
    ],
)
def test_a_reply_of_no_use_is_rejected_with_its_reason_and_the_next_seed_problem_is_tried(
    tmp_path, kind, fault, reason
):
    with ChatServer(writer, nth(kind, {2: fault})) as server:
        judged, numbers = teach(server, tmp_path, 6, max_concurrency=1)
        before = len(server.bodies)
        again, _ = teach(server, tmp_path, 6)
        assert len(server.bodies) == before, "what was of no use was paid for as well, and is not asked again"
    assert [row["reason"] for row in judged.rejected] == [reason]
    assert len(judged.rows) == 6 and numbers[f"num_{reason}"] == 1 and numbers["num_attempts"] == 7
    assert again.rows == judged.rows and again.rejected == judged.rejected
    used = [row["origin"]["seed_problem"] for row in judged.rows]
    assert len({*used, judged.rejected[0]["seed_problem"]}) == 7


def test_a_teacher_that_never_helps_is_stopped_after_so_many_attempts(tmp_path):
    with ChatServer(lambda body: REFUSALS) as server:
        with pytest.raises(TeacherError, match=r"last 5 attempts gave no problem, of 5 in all \(5 refusal\)"):
            teach(server, tmp_path, 100, max_rejected_in_a_row=5, max_concurrency=1)
        assert len(server.bodies) <= 5 + 8  # what was under way


def test_the_writers_answer_can_be_the_reference(tmp_path):
    with ChatServer(writer, nth("solve", {1: Fault(content="SOLUTION: Add.\nFINAL ANSWER: 1")})) as server:
        judged, numbers = teach(server, tmp_path, 6, verify="reference", max_concurrency=1)
    assert [row["reason"] for row in judged.rejected] == ["disagreement"]
    assert numbers["num_requests"] == 14 and all(row["answer"] == str(total(row["prompt"])) for row in judged.rows)


def test_unverified_solutions_can_be_kept_and_are_asked_for_once(tmp_path):
    wrong = Fault(content="SOLUTION: Add.\nFINAL ANSWER: 1")
    with ChatServer(writer, nth("solve", {0: wrong})) as server:
        judged, numbers = teach(server, tmp_path, 4, keep_unverified=True, max_concurrency=1)
    assert judged.rows[0]["answer"] == "1" and judged.rejected == [] and numbers["num_requests"] == 8


def written(question: str) -> Fault:
    return Fault(content=f"CREATED QUESTION: x\nVERIFICATION AND MODIFICATION: good\nFINAL QUESTION: {question}")


def test_copies_and_near_copies_are_dropped_and_the_first_is_kept(tmp_path):
    question = "Ann has 12 apples at the shop and buys 30 of them there. How many apples has Ann now?"
    near = question.replace("Ann now", "she now")
    faults = {1: written(question), 2: written(question.upper() + "!"), 3: written(near), 7: written(question)}
    with ChatServer(writer, nth("write", faults)) as server:
        judged, numbers = teach(server, tmp_path, 6, max_concurrency=1)
    assert [(row["reason"], row["detail"]) for row in judged.rejected] == [
        ("duplicate", "similarity 1.00 to attempt 1"),
        ("near_duplicate", "similarity 0.79 to attempt 1"),  # 15 of 19 word triples
        ("duplicate", "similarity 1.00 to attempt 1"),
    ]
    assert sum("12 apples" in row["prompt"] for row in judged.rows) == 1
    assert numbers["num_requests"] == 8 * 3 + 1, "the last copy was known to be one when it was written: not solved"


def test_the_seed_problem_itself_is_no_new_problem(tmp_path):
    def copying(body):
        given = body["messages"][0]["content"].partition("Given question:\n")[2].partition("\n\nAnswer in")[0]
        return written(given) if is_write(body) and "Ann" in given else None

    about = subject(200)
    with ChatServer(writer, copying) as server:
        judged, _ = teach(server, tmp_path, 100, about=about)
    assert {row["reason"] for row in judged.rejected} == {"copy_of_seed"}
    assert all("Ann" in about.seeds[row["seed_problem"]].prompt for row in judged.rejected)


def test_questions_that_share_words_with_the_held_out_are_dropped_and_reported(tmp_path):
    import random

    held_out = [question_of(random.Random(seed)) for seed in (1, 2, 3)]
    faults = {1: written(f"Once more. {held_out[2]} Say it."), 3: written(held_out[0])}
    problems = {"test": [Problem(question, "0") for question in held_out]}
    with ChatServer(writer, nth("write", faults)) as server:
        judged, numbers = teach(server, tmp_path, 6, about=subject(held_out=problems), ngram=10, max_concurrency=1)
    assert [row["reason"] for row in judged.rejected] == ["contaminated"] * 2 and numbers["num_contaminated"] == 2
    assert [row["detail"].partition(":")[0] for row in judged.rejected] == ["test problem 2", "test problem 0"]
    assert not any(question in row["prompt"] for row in judged.rows for question in held_out)


def test_several_teachers_write_in_proportion_to_their_shares_and_nested(tmp_path):
    with ChatServer(writer) as one, ChatServer(writer) as other:
        plain = {key: value for key, value in ONE.items() if key != "model"}
        teachers = {
            "gpt": {**plain, "model": "gpt-4o", "endpoint": one.url, "share": 3.0},
            "gemini": {**plain, "model": "gemini-1.5-pro", "endpoint": other.url},
        }
        teacher = Teacher.model_validate({"teachers": teachers})
        judged, _ = taught(teacher, subject(), 16, 0, tmp_path)
        small, _ = taught(teacher, subject(), 8, 0, tmp_path)
        assert (len(one.bodies), len(other.bodies)) == (36, 12)
        assert {body["model"] for body in one.bodies} == {"gpt-4o"}
    assert Counter(row["origin"]["teacher"] for row in judged.rows) == {"gpt": 12, "gemini": 4}
    assert {row["origin"]["model"] for row in judged.rows} == {"gpt-4o-2026-11-24", "gemini-1.5-pro-2026-11-24"}
    assert small.rows == judged.rows[:8]


def test_the_order_in_which_a_file_names_teachers_changes_nothing(tmp_path):
    with ChatServer(writer) as server:
        plain = {**{key: value for key, value in ONE.items() if key != "model"}, "endpoint": server.url}
        both = {name: {**plain, "model": name} for name in ("a", "b")}
        rows = [
            taught(Teacher.model_validate({"teachers": teachers}), subject(), 6, 0, tmp_path)[0].rows
            for teachers in (both, dict(reversed(both.items())))
        ]
        assert len(server.bodies) == 18
    assert rows[0] == rows[1]


def test_a_spent_budget_keeps_what_there_is_and_a_larger_one_goes_on(tmp_path):
    with ChatServer(writer) as server:
        with pytest.raises(TeacherError, match="Raise the budget"):
            teach(server, tmp_path, budget_tokens=6000)
        paid = len(server.bodies)
        assert 0 < paid < 36
        judged, numbers = teach(server, tmp_path, budget_tokens=80000)
        assert len(server.bodies) == 36 and numbers["num_new_requests"] == 36 - paid
        assert max(server.times_answered.values()) == 1
    assert len(judged.rows) == 12


CHILD = """
import json, sys
from pathlib import Path
from data.teacher.rows import taught
from plain_sums import subject
from scaling.config.teacher import Teacher
judged, numbers = taught(Teacher.model_validate(json.loads(sys.argv[1])), subject(), 40, 0, Path(sys.argv[2]))
"""


def test_after_kill_9_nothing_that_was_kept_is_paid_for_again_and_the_rows_are_those_of_an_unbroken_run(tmp_path):
    concurrency = 4
    with ChatServer(writer) as server:
        server.delay_seconds = 0.02
        settings = {**ONE, "endpoint": server.url, "max_concurrency": concurrency, "api_key_env": "TEST_KEY"}
        command = [sys.executable, "-c", CHILD, json.dumps(settings), str(tmp_path / "killed")]
        environment = {**CHILDS, "TEST_KEY": KEY}
        for kill_at in (10, 50, 90):
            child = subprocess.Popen(command, env=environment)
            while len(server.answered) < kill_at:
                assert child.poll() is None, "the run ended before it could be killed"
                time.sleep(0.002)
            child.send_signal(signal.SIGKILL)
            child.wait()
            time.sleep(0.1)  # what was under way reaches nobody
        done = subprocess.run(command, env=environment, check=True, timeout=3000, capture_output=True)
        assert done.stderr == b""
        kept = [json.loads(line) for line in (tmp_path / "killed" / "seed-0.jsonl").read_text().splitlines()]
        repeated = [body for body, times in server.times_answered.items() if times > 1]
        # Each kill loses what was on its way, at most what may be under way at once: no server takes it back.
        assert len(server.answered) - len(kept) == sum(server.times_answered.values()) - len(server.times_answered)
        assert len(repeated) <= 3 * concurrency
        assert len(kept) == len({row["key"] for row in kept}) == 120
        resumed, numbers = teach(server, tmp_path / "killed", 40)
        assert numbers["num_new_requests"] == 0
        unbroken, _ = teach(server, tmp_path / "unbroken", 40)
    assert resumed.rows == unbroken.rows


def test_two_sizes_that_run_at_once_pay_once(tmp_path):
    with ChatServer(writer) as server:
        settings = {**ONE, "endpoint": server.url}
        command = [sys.executable, "-c", CHILD, json.dumps(settings), str(tmp_path)]
        children = [subprocess.Popen(command, env=CHILDS) for _ in range(2)]
        assert [child.wait(timeout=3000) for child in children] == [0, 0]
        assert len(server.bodies) == 120 and max(server.times_answered.values()) == 1
