"""The chat teacher as a stage of a study on a set in GSM8K's format: from its files to D_syn, and in a plan."""

import json
import random

import pytest

pytest.importorskip("httpx")
pytest.importorskip("tenacity")

from chat_server import KEY, ChatServer
from plain_sums import question_of, total, writer

from data import http_requests
from data.problems.families import family_of
from data.records import Problem, read_jsonl, write_jsonl
from data.teacher.subject import STATED, completion_of, subject_of
from scaling.config.sweep import Cell
from scaling.engine.store import Store
from scaling.engine.worker import Done, Failed, run_stage
from scaling.planning import recipes
from scaling.pricing.costs import cost, costs
from scaling.pricing.teacher_bill import EXPECTED_ATTEMPTS, added_problems, bill
from scaling.stage import in_order

PRICES = {"usd_per_million_input_tokens": 2.0, "usd_per_million_output_tokens": 10.0}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """(cell of a size, the files' folder); the sums of plain_sums as GSM8K publishes its problems."""
    monkeypatch.setattr(http_requests, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setenv("TEST_KEY", KEY)
    rng = random.Random(5)
    folder = tmp_path / "set"
    folder.mkdir()
    for name, count in (("train", 30), ("test", 10)):
        questions = [question_of(rng) for _ in range(count)]
        rows = [{"question": each, "answer": f"Add.\n#### {total(each)}"} for each in questions]
        write_jsonl(folder / f"{name}.jsonl", rows)

    def cell(data_size: int, **teacher) -> Cell:
        return Cell.of(
            **{
                "data_size": data_size,
                "problems": {"family": "gsm8k", "path": str(folder), "num_validation": 5, "num_test": 10},
                "policy": {"hf": "not/needed"},
                "teacher": {"model": "big", "ledger": str(tmp_path / "ledger"), **PRICES, **teacher},
            }
        )

    return cell, folder


def run(store: Store, stage):
    """The outcome of a stage, and before it those that it needs."""
    for needed in in_order([stage]):
        if store.find(needed) is None:
            outcome = run_stage(needed, store)
            if not isinstance(outcome, Done):
                return outcome
    return outcome


def test_sizes_are_artifacts_of_their_own_that_share_what_was_paid_and_none_holds_the_key(study, tmp_path):
    cell, _ = study
    store = Store(tmp_path / "store")
    with ChatServer(writer) as server:
        settings = {"endpoint": server.url, "api_key_env": "TEST_KEY"}
        small, large = (recipes.synthetic(cell(size, **settings), 0) for size in (6, 12))
        assert run(store, large).record["numbers"]["num_new_requests"] == 36
        record = run(store, small).record
        assert record["numbers"]["num_new_requests"] == 0 and record["numbers"]["num_requests"] == 18
        assert len(server.bodies) == 36 and server.violations == []
    rows = read_jsonl(store.find(large) / "synthetic.jsonl")
    assert read_jsonl(store.find(small) / "synthetic.jsonl") == rows[:6]
    problems = cell(6).problems
    for row in rows:
        assert row["prompt"].endswith(f"\n\n{problems.instruction}")
        assert (
            family_of(problems).check(problems, Problem(row["prompt"], row["answer"]), row["completion"]).reward == 1.0
        )
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10 and not any(KEY.encode() in text for text in written)


def test_a_failed_stage_keeps_no_key_and_goes_on_where_it_stopped(study, tmp_path):
    cell, _ = study
    store = Store(tmp_path / "store")
    with ChatServer(writer) as server:
        settings = {"endpoint": server.url, "api_key_env": "TEST_KEY"}
        outcome = run(store, recipes.synthetic(cell(12, **settings, budget_tokens=6000), 0))
        assert isinstance(outcome, Failed) and "Raise the budget" in outcome.failure["error"]
        paid = len(server.bodies)
        assert 0 < paid < 36
        done = run(store, recipes.synthetic(cell(12, **settings), 0))
        assert done.record["numbers"]["num_new_requests"] == 36 - paid
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_copied_test_problem_is_kept_out_although_all_prompts_end_in_the_same_instruction(study, tmp_path):
    cell, folder = study
    copied = read_jsonl(folder / "test.jsonl")[3]["question"]

    def copying(body):
        reply = writer(body)
        if "CREATED QUESTION" not in reply or random.Random(body["seed"]).random() < 0.5:
            return reply
        return reply.partition("FINAL QUESTION:")[0] + f"FINAL QUESTION: {copied}"

    store = Store(tmp_path / "store")
    with ChatServer(copying) as server:
        stage = recipes.synthetic(cell(8, endpoint=server.url, api_key_env=None), 0)
        numbers = run(store, stage).record["numbers"]
    rejected = read_jsonl(store.find(stage) / "rejected.jsonl")
    assert numbers["num_contaminated"] == len(rejected) > 0
    assert {row["reason"] for row in rejected} == {"contaminated"}
    assert all(row["detail"].startswith("test problem ") for row in rejected)
    assert not any(copied in row["prompt"] for row in read_jsonl(store.find(stage) / "synthetic.jsonl"))


def test_the_subject_has_bare_questions_and_the_familys_verdict(study, tmp_path):
    cell, folder = study
    store = Store(tmp_path / "store")
    problems, stage = cell(4).problems, recipes.fixed_problems(cell(4))
    run(store, stage)
    subject = subject_of(problems, {"problems": store.find(stage)})
    train = {row["question"] for row in read_jsonl(folder / "train.jsonl")}
    test = {row["question"] for row in read_jsonl(folder / "test.jsonl")}
    assert {problem.prompt for problem in subject.held_out["test"]} == test
    validation = {problem.prompt for problem in subject.held_out["validation"]}
    assert {problem.prompt for problem in subject.seeds} == train - validation and len(validation) == 5
    assert subject.is_right(Problem("?", "1,200"), subject.completion("So it is.", "$1200"))


@pytest.mark.parametrize("form", STATED)
def test_a_completion_states_its_answer_in_every_form_that_is_read(form):
    from data.answers.final_answer import final_answer

    for answer in ("42", "$42$", "\\boxed{42}", " 42\n"):
        completion = completion_of("First 40.\n\n  Then 2 more.", answer, form)
        assert completion.startswith("First 40.\nThen 2 more.\n")
        assert final_answer(completion, [form]).strip(".") == "42"


def test_a_plan_names_requests_cost_and_budget_once_for_all_sizes_of_a_seed(study):
    cell, _ = study
    settings = {"max_tokens": 1000, "budget_usd": 7.5}
    stages = [recipes.synthetic(cell(size, **settings), seed) for size in (10, 40, 20) for seed in (0, 1)]
    requests, most, budget = bill(added_problems(stages))
    assert f"about {2 * 40 * 3 * EXPECTED_ATTEMPTS:.0f} requests to big" in requests and "80 problems" in requests
    # 80 problems, 2 attempts, 3 requests of at most 1000 tokens in at 2 and 1000 out at 10 USD a million.
    assert f"At most about {80 * 2 * 3 * (1000 * 2 + 1000 * 10) / 1e6:.2f} USD" in most
    assert "0.00 USD and 0 tokens in 0 requests; the budget is 7.5 USD" in budget
    assert bill(added_problems([recipes.synthetic(Cell.of(), 0)])) == []


def test_a_plan_counts_what_nested_sizes_ask_for_once(study, tmp_path):
    cell, _ = study
    small, middle, large = (recipes.synthetic(cell(size), 0) for size in (10, 20, 40))
    assert added_problems([large, small, middle]) == {small: 10, middle: 10, large: 20}
    together = sum(work.request_seconds for work in costs([large, small, middle]).values())
    assert together == pytest.approx(cost(large).request_seconds)
    other = recipes.synthetic(cell(10, temperature=0.5), 0)  # other requests
    assert added_problems([large, other, recipes.synthetic(cell(10), 1)])[other] == 10
    sifted = recipes.synthetic(cell(30, ngram=5), 0)  # the same requests, judged otherwise
    assert added_problems([middle, sifted]) == {middle: 20, sifted: 10}


def test_what_stored_sizes_have_asked_for_is_not_billed_again_as_long_as_the_ledger_is_there(study, tmp_path):
    cell, _ = study
    small, large = (recipes.synthetic(cell(size), 0) for size in (10, 40))
    assert added_problems([large], stored=[small]) == {large: 40}
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "seed-0.jsonl").touch()
    assert added_problems([large], stored=[small]) == {large: 30}
    assert added_problems([small], stored=[large]) == {small: 0}
    assert costs([small], stored=[large])[small].request_seconds == 0.0


def test_the_time_of_a_teacher_is_that_of_its_pace_or_of_its_slots(study):
    cell, _ = study
    slow, fast = (
        cost(recipes.synthetic(cell(40, **settings), 0)).request_seconds
        for settings in ({"requests_per_minute": 6.0}, {"max_concurrency": 100})
    )
    requests = 40 * 3 * EXPECTED_ATTEMPTS
    assert slow == pytest.approx(requests * 10.0) and fast == pytest.approx(requests * 10.0 / 100)
    assert cost(recipes.synthetic(Cell.of(), 0)).request_seconds == 0.0


def test_a_missing_extra_is_one_error_that_names_it(study, tmp_path, monkeypatch):
    import sys

    cell, _ = study
    monkeypatch.setitem(sys.modules, "httpx", None)
    for name in ("data.http_requests", "data.teacher.client", "data.teacher.attempts", "data.teacher.rows"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    outcome = run(Store(tmp_path / "store"), recipes.synthetic(cell(4), 0))
    assert isinstance(outcome, Failed)
    assert "ImportError: requests to a server need the package httpx" in outcome.failure["error"]
    assert "pip install --editable '.[teacher]'" in json.dumps(outcome.failure)
