"""What artifacts hold as readers see it, and the commands that show a run, ask its policy and export it."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from tiny_chain import SETTINGS, SYNTHETIC, TOKENIZER, by_hand, tokens_of, values_by_hand

from algorithms import awr, kto, rft, step_rft
from data import readable
from data.readable import Reader
from data.records import Problem, write_jsonl
from data.tokens.tokenizer import for_problems
from scaling import chat, export, show
from scaling.api import load_policy
from scaling.config.problems import Ledger
from scaling.config.section import plain

READER = Reader(SETTINGS, TOKENIZER)
WRONG = "1 2 = 3 3 ; 3 3 = 7 ; # 7"  # problem 0, wrong in its second step
LUCKY = "1 2 = 4 3 ; 4 3 = 6 ; # 6"  # right by two wrong steps


@pytest.fixture
def inputs(tmp_path):
    return by_hand(tmp_path, {0: [WRONG, LUCKY], 1: [SYNTHETIC[1]["completion"]]})


def texts(written):
    return [step.text for step in written.steps]


def test_a_teachers_solution_is_cut_into_steps_that_join_to_it(inputs):
    first, *_ = readable.solutions(READER, inputs["synthetic"])
    assert (first.problem, first.prompt, first.answer) == ("0", "1 2 3 ?", "6")
    (solution,) = first.completions
    assert " ".join(texts(solution)) == SYNTHETIC[0]["completion"]
    assert solution.right and [step.wrong for step in solution.steps] == [False, False, False]


def test_rollouts_show_wrong_steps_of_right_answers(inputs):
    first, second = readable.rollouts(READER, inputs["synthetic"], inputs["rollouts"], inputs["verification"])
    wrong, lucky = first.completions
    assert (wrong.who, wrong.right, wrong.answer) == ("sample 0", False, "7")
    assert [step.wrong for step in wrong.steps] == [False, True, False]
    assert lucky.right and [step.wrong for step in lucky.steps] == [True, True, False]
    assert "2 spurious steps" in show.as_text(first).plain
    assert second.problem == "1" and "spurious" not in show.as_text(second).plain


STORY = {  # a ledger with a right step that is not needed, one that is not ready, and a wrong fact
    "prompt": "Ana has 3 . Bo has 4 . Di is Ana plus Bo . Cy is Di plus Ana . Gus is Bo plus Ana . how many has Cy ?",
    "answer": "3",
    "completion": "Gus : Bo 4 plus Ana 3 = 0 ; Cy : Ana 3 plus Di 0 = 3 ; Di : Ana 3 plus Bo 4 = 1 ; # 3",
}


def test_a_ledgers_steps_have_their_labels_in_the_terminal_on_the_page_and_in_json(tmp_path):
    write_jsonl(tmp_path / "synthetic.jsonl", [STORY])
    settings = Ledger(modulus=7)
    (example,) = readable.solutions(Reader(settings, for_problems(settings)), tmp_path)
    (written,) = example.completions
    labels = ["unneeded", "not ready", "wrong fact", ""]
    assert [step.label for step in written.steps] == labels
    assert [step.wrong for step in written.steps] == [False, True, True, False]
    shown, page = show.as_text(example).plain, show.gallery("a ledger", [example])
    assert "3 spurious steps" in shown and page.count('class="wrong') == 3
    for step in written.steps[:-1]:
        assert f"{step.text}   {step.label}\n" in shown and f"<small>{step.label}</small>" in page
    rows = readable.as_json(example)["completions"][0]["steps"]
    assert [row.get("label", "") for row in rows] == labels and "label" not in rows[-1]


def test_values_stand_beside_their_steps_with_the_advantage_and_the_first_pit(inputs, tmp_path):
    folder = values_by_hand(tmp_path, inputs, {(0, 0): ([0.5, 0.0, 0.0], 0.75)})
    (example,) = readable.values(
        READER, inputs["synthetic"], inputs["rollouts"], inputs["verification"], folder, "lowest"
    )
    (trace,) = example.completions
    assert [(step.q, step.advantage, step.pit) for step in trace.steps] == [
        (0.5, -0.25, False),
        (0.0, -0.5, True),
        (0.0, 0.0, False),
    ]
    assert "Q 0.00, A -0.50, wrong step, <- first pit" in show.as_text(example).plain


def test_a_value_that_is_not_known_has_no_advantage_either(inputs, tmp_path):
    folder = values_by_hand(tmp_path, inputs, {(0, 0): ([None, 0.0, 0.0], 0.75)})
    (example,) = readable.values(
        READER, inputs["synthetic"], inputs["rollouts"], inputs["verification"], folder, "lowest"
    )
    assert [step.advantage for step in example.completions[0].steps] == [None, None, 0.0]


def test_a_pair_shows_what_both_begin_with_and_each_side(inputs, tmp_path):
    context = [*TOKENIZER.encode_prompt("1 2 3 ?"), *TOKENIZER.encode("1 2 = 3 3 ;")]
    row = (0, context, tokens_of("3 3 = 6 ; # 6"), TOKENIZER.encode("3 3 = 7 ;"))
    frame = pd.DataFrame([row], columns=["problem", "context", "chosen", "rejected"])
    frame.to_parquet(tmp_path / "pairs.parquet")
    (example,) = readable.pairs(READER, inputs["synthetic"], tmp_path)
    assert {item.who: texts(item) for item in example.completions} == {
        "both begin": ["1 2 = 3 3 ;"],
        "chosen": ["3 3 = 6 ;", "# 6"],
        "rejected": ["3 3 = 7 ;"],
    }


@pytest.mark.parametrize(
    ("select", "settings", "expected"),
    [
        (rft.select_positives, {"positives": {"max_positives": 4, "keep": "any"}}, [("positive", [None] * 3)]),
        (kto.label_steps, {}, [("undesirable", [None]), ("undesirable", [0.0, None])]),
        (step_rft.select_steps, {"good_steps": {"min_advantage": -0.3}}, [("trace", [1.0, 0.0, 1.0])]),
    ],
)
def test_learned_shows_the_steps_with_what_the_learner_makes_of_them(inputs, tmp_path, select, settings, expected):
    inputs = {**inputs, "step_values": values_by_hand(tmp_path, inputs, {(0, 0): ([0.5, 0.0, 0.0], 0.75)})}
    (tmp_path / "rows").mkdir()
    select({"problems": plain(SETTINGS), "seed": 0, **settings}, inputs, tmp_path / "rows")
    (file,) = (tmp_path / "rows").glob("*.parquet")
    first, *_ = readable.learned(READER, inputs["synthetic"], file)
    assert [(item.who, [step.weight for step in item.steps]) for item in first.completions] == expected
    assert texts(first.completions[-1])[0] == ("1 2 = 4 3 ;" if select is rft.select_positives else "1 2 = 3 3 ;")


def test_learned_shows_the_weight_of_each_step_of_awr(inputs, tmp_path):
    inputs = {**inputs, "step_values": values_by_hand(tmp_path, inputs, {(0, 0): ([0.5, 0.0, 0.0], 0.75)})}
    config = {"problems": plain(SETTINGS), "weighted_steps": {"beta": 0.5, "max_weight": 20.0}}
    awr.weigh_steps(config, inputs, tmp_path)
    first, *_ = readable.learned(READER, inputs["synthetic"], tmp_path / "weighted_steps.parquet")
    weights = np.array([step.weight for step in first.completions[0].steps])
    assert weights / weights[-1] == pytest.approx(np.exp([-0.25 / 0.5, -0.5 / 0.5, 0.0]))
    assert f"weight {weights[0]:.2f}" in show.as_text(first).plain


@pytest.mark.parametrize("kept", [True, False])
def test_wrong_test_problems_have_the_completions_that_were_kept_or_are_sampled_again(tmp_path, kept):
    problems = [Problem(row["prompt"], row["answer"]) for row in SYNTHETIC]
    write_jsonl(tmp_path / "test.jsonl", ({"prompt": item.prompt, "answer": item.answer} for item in problems))
    frame = pd.DataFrame({"problem": [item.key for item in problems], "wrong": np.array([1, 0, 0], np.int8)})
    frame.to_parquet(tmp_path / "outcomes.parquet")
    if kept:
        frame.assign(tokens=[tokens_of(WRONG)] * 3).drop(columns="wrong").to_parquet(tmp_path / "completions.parquet")
    asked = []

    def complete(failed):
        asked.extend(failed)
        return [WRONG for _ in failed]

    (example,) = readable.wrong(READER, tmp_path, "test", tmp_path, complete)
    assert example.problem == problems[0].key and example.completions[0].answer == "7"
    assert asked == ([] if kept else [problems[0]])


def test_a_page_escapes_what_it_shows_and_needs_nothing_else(inputs):
    example, *_ = readable.solutions(READER, inputs["synthetic"])
    hostile = readable.Example("0", "<script>alert(1)</script>", "6", example.completions)
    page = show.gallery("a & b", [hostile])
    assert "<script" not in page and "&lt;script&gt;" in page and "a &amp; b" in page
    assert "http" not in page and page.count("<section>") == 1


OPTIMIZER = {"epochs": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A tiny sweep of SFT, RFT and per-step DPO, run."""
    from scaling import sweep

    folder = tmp_path_factory.mktemp("show")
    file = folder / "tiny.yaml"
    file.write_text(
        json.dumps(
            {
                "question": "What is in there?",
                "problems": {"family": "modular_sum", "modulus": 11, "operands": 3, "num_test": 8, "num_validation": 4},
                "policy": {"size": "xxs", "base": "random"},
                "sft": OPTIMIZER,
                "step_dpo": OPTIMIZER | {"pair_mode": "full_vs_prefix"},
                "rollouts": {"samples_per_problem": 4},
                "step_values": {"rollouts_per_prefix": 1},
                "evaluation": {"samples_per_problem": 0, "pass_at": []},
                "grid": {"algorithm": ["sft", "step_dpo"], "data_size": [12]},
                "seeds": [0],
                "store": str(folder / "store"),
                "results": str(folder / "results"),
            }
        )
    )
    assert sweep.main([str(file), "--inline"]) == 0
    return file


@pytest.mark.slow
def test_the_commands_show_every_kind_ask_the_policy_and_export_it(ran, tmp_path, capsys):
    for what in ("problems", "teacher", "rollouts", "values", "pairs", "wrong"):
        assert show.main([str(ran), what, "--json", "--limit", "2"]) == 0, what
        shown = json.loads(capsys.readouterr().out)
        assert 1 <= len(shown) <= 2 and all(example["prompt"].endswith("?") for example in shown)
    assert show.main([str(ran), "curves", "--algorithm", "step_dpo"]) == 0
    assert "train/loss" in capsys.readouterr().out
    assert show.main([str(ran), "teacher", "--html", str(tmp_path / "page.html")]) == 0
    assert "<article>" in (tmp_path / "page.html").read_text()
    assert chat.main([str(ran), "--algorithm", "sft", "--prompt", "1 2 3 ?", "--answer", "6"]) == 0
    assert "log-probability" in capsys.readouterr().out
    assert export.main([str(ran), "--algorithm", "step_dpo", "--out", str(tmp_path / "policy")]) == 0
    assert (tmp_path / "policy" / "model.safetensors").is_file()
    assert export.main([str(ran), "--algorithm", "step_dpo", "--out", str(tmp_path / "policy")]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pairs", "--algorithm", "sft"], "no stored run that is asked for has pairs; .* such as --algorithm step_dpo"),
        (["teacher", "--where", "data_size=[12"], "--where data_size=.*is not YAML; close its brackets"),
        (["teacher", "--where", "data_size=12", "--data-size", "13"], "data_size is to be 12 and 13"),
        (["teacher", "--algorithm", "Step-DPO"], "Did you mean 'step_dpo'"),
        (["teacher", "--html", "/nowhere/page.html"], "--html /nowhere/page.html: No such file"),
        (["teacher", "--where", "data_size=13"], "the runs of .* have 12"),
        (["teacher", "--where", "data_size"], "expected KEY=VALUE"),
        (["teacher", "--where", "colour=red"], "which does not vary between runs"),
        (["teacher", "--problem", "12"], "there is no problem '12'"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(ran, arguments, message, capsys):
    assert show.main([str(ran), *arguments]) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) <= 2
    assert re.search(message, err)


@pytest.mark.parametrize("limit", ["0", "-3", "many", "1.5"])
def test_a_limit_is_a_whole_number_above_zero(limit, capsys):
    with pytest.raises(SystemExit) as stopped:
        show.main(["sweep.yaml", "teacher", "--limit", limit])
    assert stopped.value.code == 2 and f"{limit!r} is not a whole number above 0" in capsys.readouterr().err


@pytest.mark.slow
def test_a_prompt_that_cannot_be_read_leaves_the_others(ran, capsys):
    assert chat.main([str(ran), "--algorithm", "sft", "--prompt", "hello", "--prompt", "1 2 3 ?"]) == 2
    shown = capsys.readouterr()
    assert "word 'hello'" in shown.err and shown.out.count("log-probability") == 1
    assert chat.main([str(ran), "--algorithm", "sft", "--prompt", ""]) == 2
    assert "--prompt or --answer is empty" in capsys.readouterr().err


@pytest.mark.slow
def test_a_loaded_policy_judges_an_answer(ran):
    policy = load_policy(ran, {"algorithm": "sft"})
    assert policy.judge("1 2 3 ?", "6", "1 2 = 3 3 ; 3 3 = 6 ; # 6") == (True, "6")
    assert policy.judge("1 2 3 ?", "6", WRONG) == (False, "7")


@pytest.mark.slow
def test_the_report_shows_what_was_run_and_the_same_problems_by_each_algorithm(ran):
    folder = ran.parent / "results"
    page, kept = (folder / "report.html").read_text(), json.loads((folder / "samples.json").read_text())
    assert kept["where"] == "data size 12, seed 0"
    assert kept["taught"][0]["prompt"] in page and kept["solved"] and kept["values"] and kept["pairs"]
    for example in kept["solved"]:
        wrong = pd.read_parquet(next((ran.parent / "store/evaluation").glob("sft*-test-*")) / "outcomes.parquet")
        sft, step_dpo = example["completions"]
        assert (sft["who"], step_dpo["who"]) == ("sft", "step_dpo")
        assert sft["right"] == (wrong.set_index("problem")["wrong"][example["problem"]] == 0)
    assert any(step["pit"] for step in kept["values"][0]["completions"][0]["steps"])
    order = [page.index(f">{title}<") for title in ("Figures", "Verdicts", "What was run", "Samples", "Contents")]
    assert order == sorted(order) and page.index("<details") > order[-1]
    curves = pd.read_csv(folder / "training.csv")
    assert set(curves["algorithm"]) == {"sft", "step_dpo"} and {"train/loss", "rewards/margins"} <= set(
        curves["metric"]
    )
    assert (folder / "figures/training.png").is_file()


@pytest.mark.slow
def test_a_report_from_its_tables_shows_the_same_samples(ran, tmp_path):
    from analysis.report import report

    folder = ran.parent / "results"
    before = {name: (folder / name).read_bytes() for name in ("samples.json", "training.csv", "report.md")}
    report(ran, [], None, from_results=True)
    assert {name: (folder / name).read_bytes() for name in before} == before
