"""user_verifiers: rows judged by a check of the user's, in a process that is limited in time and memory."""

import json
import textwrap

import pytest

from data.answers import user_verifiers
from data.answers.user_verifiers import is_right, verifier_of
from data.problems import text_problems
from data.problems.row_readers import read_row
from data.records import Problem
from scaling.config.errors import ConfigError
from scaling.config.text_problems import Jsonl
from scaling.planning.set_stages import answering
from scaling.planning.sweep_file import load_sweep
from scaling.plugins import load_plugins

MODULE = """
    import json
    from data.answers.user_verifiers import Verifier, register_verifier

    def passes(completion, answer):
        if completion == "loop":
            while True:
                pass
        if completion == "grow":
            return len(bytearray(10**10)) > 0
        if completion == "raise":
            raise KeyError("tests")
        print("this goes to no reply")
        scope = {}
        exec(completion, scope)
        return all(scope["f"](*given) == wanted for given, wanted in json.loads(answer))

    register_verifier(Verifier("NAME", passes, seconds=SECONDS, gib=1.0))
"""
TESTS = json.dumps([[[1, 2], 3], [[0, 0], 0]])


@pytest.fixture
def verifier(tmp_path, request):
    """A verifier of unit tests, registered by a module of its own."""
    name = f"unit_tests_{abs(hash(request.node.name))}"
    seconds = "1.0" if "limit" in request.node.name else "60.0"
    text = textwrap.dedent(MODULE).replace("NAME", name).replace("SECONDS", seconds)
    (tmp_path / f"module_{name}.py").write_text(text)
    load_plugins([tmp_path / f"module_{name}.py"])
    yield name
    if process := user_verifiers._PROCESSES.pop(verifier_of(name), None):
        process.kill()


def test_code_is_run_against_unit_tests(verifier):
    assert is_right(verifier, "def f(a, b): return a + b", TESTS)
    assert not is_right(verifier, "def f(a, b): return a * b", TESTS)
    with pytest.raises(RuntimeError, match="KeyError"):
        is_right(verifier, "raise", TESTS)
    assert is_right(verifier, "f = lambda a, b: a + b", TESTS)  # a new process


def test_beyond_the_limits_of_time_and_memory_it_is_wrong_and_the_next_one_is_judged(verifier):
    user_verifiers.is_right(verifier, "def f(a, b): return a + b", TESTS)
    assert not is_right(verifier, "loop", TESTS)
    assert not is_right(verifier, "grow", TESTS)


def test_a_set_of_rows_is_judged_by_it_and_its_source_is_part_of_the_identity(verifier):
    config = Jsonl(verifier=verifier)
    problem = Problem(prompt="add", answer=TESTS)
    good, bad = "def f(a, b): return a + b", "def f(a, b): return 7"
    assert text_problems.check(config, problem, good).reward == 1.0
    assert text_problems.check(config, problem, bad).reward == 0.0
    row = {"prompt": "add", "answer": TESTS, "solution": good}
    assert read_row(config, row, "row 1").solution == good
    with pytest.raises(ValueError, match="finds the row's own solution wrong"):
        read_row(config, row | {"solution": bad}, "row 1")
    assert answering(config)["verifier"] == f"{verifier}@{verifier_of(verifier).source}"
    assert "verifier" not in answering(Jsonl())
    with pytest.raises(ValueError, match="has changed since"):
        verifier_of(f"{verifier}@0000")


def test_an_unknown_verifier_is_an_error_before_anything_runs(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "add", "answer": "3"}) + "\n")
    (tmp_path / "s.yaml").write_text(
        "question: q\nproblems: {family: jsonl, path: rows.jsonl, verifier: nobodys}\n"
        "policy: {hf: a/b}\ngrid: {algorithm: [sft]}\nseeds: [0]\n"
    )
    with pytest.raises(ConfigError, match="which no imported module registers"):
        load_sweep(tmp_path / "s.yaml")
