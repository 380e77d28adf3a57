"""Ledgers: the laws of problems and web text, teacher solutions, and the verifier of every step."""

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data.problems import ledger as family
from data.problems.ledger import NOT_ALLOWED, NOT_READY, UNNEEDED, WRONG_FACT
from data.records import Problem
from data.tokens.tokenizer import for_problems
from scaling.config.problems import Ledger

P23 = Ledger(modulus=23, known=2, needed=(3, 2), unneeded=(2,))
PROBLEM = Problem(
    "Ana has 7 . Cy is Di plus Ana plus Bo . Gus is Bo plus Ana . Bo has 12 . Di is Ana plus Bo . how many has Cy ?",
    "15",
)
SOLUTION = "Di : Bo 12 plus Ana 7 = 19 ; Cy : Ana 7 plus Bo 12 = 19 ; Cy 19 plus Di 19 = 15 ; # 15"
CONFIGS = st.sampled_from(
    [
        Ledger(),
        Ledger(modulus=23, names=10),
        P23,
        Ledger(modulus=7, known=4, needed=(3, 2, 4), unneeded=(3, 3, 2)),
        Ledger(modulus=97, names=40, needed=(6,), unneeded=()),
    ]
)
SEEDS = st.integers(0, 2**32)
RIGHT = ""


def labels(completion, problem=PROBLEM, config=P23):
    return [step.label for step in family.check(config, problem, completion).steps]


def test_the_example_of_the_module_verifies():
    assert PROBLEM.prompt in family.__doc__ and SOLUTION in family.__doc__
    check = family.check(P23, PROBLEM, SOLUTION)
    assert (check.reward, check.answer, check.error_kind, check.spurious_steps) == (1.0, "15", "none", 0)
    assert [step.text for step in check.steps] == [
        "Di : Bo 12 plus Ana 7 = 19 ;",
        "Cy : Ana 7 plus Bo 12 = 19 ;",
        "Cy 19 plus Di 19 = 15 ;",
        "# 15",
    ]
    assert all(step.correct and step.needed and not step.label for step in check.steps)


@pytest.mark.parametrize(
    ("completion", "expected", "spurious"),
    [
        # right and needed, in another order: sums may alternate
        (
            "Cy : Bo 12 plus Ana 7 = 19 ; Di : Ana 7 plus Bo 12 = 19 ; Cy 19 plus Di 19 = 15 ; # 15",
            [RIGHT] * 4,
            0,
        ),
        # right and not needed
        ("Gus : Ana 7 plus Bo 12 = 19 ; " + SOLUTION, [UNNEEDED, *[RIGHT] * 4], 1),
        (
            SOLUTION.replace("# 15", "Gus : Bo 12 plus Ana 7 = 19 ; # 15"),
            [RIGHT, RIGHT, RIGHT, UNNEEDED, RIGHT],
            1,
        ),
        # not ready: Di is not known yet, whatever is written for it
        (
            "Cy : Ana 7 plus Bo 12 = 19 ; Cy 19 plus Di 19 = 15 ; # 15",
            [RIGHT, NOT_READY, RIGHT],
            1,
        ),
        ("Cy : Di 3 plus Ana 7 = 10 ;", [NOT_READY], 0),
        ("Cy 12 plus Ana 7 = 19 ;", [NOT_READY], 0),  # what Cy has come to is not known
        ("# 15", [NOT_READY], 1),
        # a wrong fact is wrong where it is written and followed from there
        ("Gus : Ana 7 plus Bo 12 = 3 ; " + SOLUTION, [WRONG_FACT, *[RIGHT] * 4], 1),
        (
            "Di : Bo 12 plus Ana 7 = 18 ; Cy : Ana 7 plus Bo 12 = 20 ; Cy 20 plus Di 18 = 15 ; # 15",
            [WRONG_FACT, WRONG_FACT, RIGHT, RIGHT],
            2,
        ),
        (
            "Di : Bo 12 plus Ana 7 = 18 ; Cy : Ana 7 plus Bo 12 = 19 ; Cy 19 plus Di 18 = 14 ; # 14",
            [WRONG_FACT, RIGHT, RIGHT, RIGHT],
            0,
        ),
    ],
)
def test_a_step_is_needed_or_unneeded_or_not_ready_or_states_a_wrong_fact(completion, expected, spurious):
    check = family.check(P23, PROBLEM, completion)
    assert [step.label for step in check.steps] == expected
    assert check.spurious_steps == spurious
    of_label = {
        RIGHT: (True, True, True),
        UNNEEDED: (True, True, False),
        NOT_READY: (False, True, True),
    }
    for step in check.steps:
        if step.label == WRONG_FACT:
            assert (step.procedure_ok, step.fact_ok) == (True, False)
        else:
            assert (step.procedure_ok, step.fact_ok, step.needed) == of_label[step.label]


def test_an_unneeded_step_is_no_error_and_a_wrong_one_passes_the_answers_verifier():
    right = family.check(P23, PROBLEM, "Gus : Ana 7 plus Bo 12 = 19 ; " + SOLUTION)
    assert (right.reward, right.error_kind, right.wrong_steps, right.spurious_steps) == (1.0, "none", 0, 1)
    wrong = family.check(P23, PROBLEM, "Gus : Ana 7 plus Bo 12 = 3 ; " + SOLUTION)
    assert (wrong.reward, wrong.error_kind, wrong.wrong_steps, wrong.spurious_steps) == (1.0, "fact", 1, 1)


@pytest.mark.parametrize(
    "step",
    [
        "Di : Ana 7 plus Gus 19 = 3 ;",  # Gus is no term of Di
        "Di : Ana 7 plus Ana 7 = 14 ;",
        "Di : Ana 7 plus Bo 11 = 18 ;",  # Bo has 12
        "Di : Ana 12 plus Bo 7 = 19 ;",  # the numbers in the other order than the names
        "Ana : Bo 12 plus Di 19 = 8 ;",  # Ana is no sum
        "Hal : Ana 7 plus Bo 12 = 19 ;",
        "Di : Ana 7 plus Bo 12 = 42 ;",  # no number below 23
        "Di : Ana 07 plus Bo 12 = 19 ;",
        "Di : Ana 7 plus Bo 12 = 19",  # no separator
        "Di : Ana 7 plus 12 = 19 ;",
        "Di Ana 7 plus Bo 12 = 19 ;",
        "Di : Ana plus Bo 12 = 19 ;",
        "# 15 ;",
        ";",
        "",
    ],
)
def test_a_step_without_the_form_or_the_numbers_of_a_step_is_not_allowed(step):
    found = labels(step)
    assert found == [NOT_READY if step.startswith("#") else NOT_ALLOWED]
    assert family.check(P23, PROBLEM, step).error_kind == "procedure"


def test_terms_are_added_once_and_a_sum_that_begins_again_begins_with_all_of_them():
    opened = "Cy : Ana 7 plus Bo 12 = 19 ;"
    assert labels(f"{opened} Cy 19 plus Ana 7 = 3 ;") == [RIGHT, NOT_ALLOWED]
    assert labels(f"{opened} Cy 18 plus Bo 12 = 7 ;") == [RIGHT, NOT_ALLOWED]
    again = "Di : Bo 12 plus Ana 7 = 19 ;"
    assert labels(f"{again} {again} {opened} Cy 19 plus Di 19 = 15 ; # 15") == [RIGHT, NOT_ALLOWED, *[RIGHT] * 3]
    assert labels(f"{again} {opened} Cy 19 plus Di 18 = 14 ; # 14") == [RIGHT, RIGHT, NOT_ALLOWED, RIGHT]


def test_a_wrong_fact_counts_beside_an_error_of_procedure():
    (step,) = family.check(P23, PROBLEM, "Di : Ana 7 plus Bo 11 = 3 ;").steps
    assert (step.procedure_ok, step.fact_ok, step.label) == (False, False, NOT_ALLOWED)


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (SOLUTION, "15"),
        ("# 0", "0"),
        ("Ana ; # 3", "3"),
        ("# 23", None),
        ("# 03", None),
        ("# ٣", None),
        ("# 3 ;", None),
        ("# 3 4", None),
        ("Ana # 3", None),
        ("#", None),
        ("", None),
    ],
)
def test_the_answer_is_the_last_step_when_it_is_a_number_after_a_hash(completion, expected):
    assert family.answer(P23, completion) == expected


@settings(deadline=None, max_examples=60)
@given(CONFIGS, SEEDS)
def test_every_teacher_solution_is_right_and_needed_in_every_step(config, seed):
    rng = np.random.default_rng(seed)
    problem = family.draw(config, rng)
    solution = family.solve(config, problem, rng)
    check = family.check(config, problem, solution)
    assert (check.reward, check.error_kind, check.spurious_steps) == (1.0, "none", 0)
    assert len(check.steps) == sum(terms - 1 for terms in config.needed) + 1
    assert len(problem.prompt.split()) == family.max_prompt_words(config)
    for_problems(config).encode(f"{problem.prompt} {solution}")


@settings(deadline=None, max_examples=60)
@given(CONFIGS, SEEDS)
def test_the_answer_follows_from_the_sentences(config, seed):
    """Solved backwards from the question."""
    problem = family.draw(config, np.random.default_rng(seed))
    *sentences, question = problem.prompt.split(" . ")
    said = {sentence.split()[0]: sentence.split()[2:] for sentence in sentences}

    def number_of(name):
        return int(said[name][0]) if said[name][0].isdecimal() else sum(map(number_of, said[name][::2]))

    assert str(number_of(question.split()[3]) % config.modulus) == problem.answer
    assert len(said) == config.known + len(config.needed) + len(config.unneeded)


def test_the_default_problem_is_short_enough_for_a_small_policy():
    config = Ledger()
    assert family.max_prompt_words(config) == 67
    rng = np.random.default_rng(0)
    problem = family.draw(config, rng)
    assert len(family.solve(config, problem, rng).split()) == 62
    assert family.max_completion_words(config) == 62 + 26 + 10
    largest = Ledger(modulus=97, names=40)
    assert len(family.vocabulary(config)) == 94 and len(family.vocabulary(largest)) == 148


@settings(deadline=None, max_examples=60)
@given(CONFIGS, SEEDS, st.sampled_from(["random", "systematic"]))
def test_a_flawed_solution_has_the_right_answer_and_two_spurious_steps(config, seed, flaws):
    config = config.model_copy(update={"flaw_rate": 1.0, "flaws": flaws})
    rng = np.random.default_rng(seed)
    problem = family.draw(config, rng)
    check = family.check(config, problem, family.solve(config, problem, rng))
    assert (check.reward, check.num_procedure_errors) == (1.0, 0)
    assert check.spurious_steps == check.num_wrong_facts == 2 or (flaws, check.spurious_steps) == ("systematic", 0)


@settings(deadline=None, max_examples=60)
@given(CONFIGS, SEEDS)
def test_a_solution_with_unneeded_steps_has_nothing_wrong(config, seed):
    if not config.unneeded:
        return
    config = config.model_copy(update={"unneeded_rate": 1.0})
    rng = np.random.default_rng(seed)
    problem = family.draw(config, rng)
    completion = family.solve(config, problem, rng)
    check = family.check(config, problem, completion)
    assert (check.reward, check.wrong_steps, check.error_kind) == (1.0, 0, "none")
    of_sums = [terms - 1 for terms in config.unneeded]
    assert min(of_sums) <= check.spurious_steps <= sum(of_sums)
    assert len(completion.split()) <= family.max_completion_words(config)
    assert len(check.steps) <= family.max_steps(config)


@pytest.mark.parametrize("flaws", ["random", "systematic"])
def test_both_kinds_of_flaws_come_at_their_rates_and_apart_from_each_other(flaws):
    config = Ledger(modulus=23, flaw_rate=0.25, flaws=flaws, unneeded_rate=0.4)
    rng = np.random.default_rng(0)
    problem = family.draw(config, rng)
    counts = Counter()
    for _ in range(2000):
        steps = family.check(config, problem, family.solve(config, problem, rng)).steps
        counts[any(not step.fact_ok for step in steps), any(not step.needed for step in steps)] += 1
    for key, chance in {(True, True): 0.1, (True, False): 0.15, (False, True): 0.3, (False, False): 0.45}.items():
        assert abs(counts[key] - 2000 * chance) < 5 * np.sqrt(2000 * chance * (1 - chance)), key


def test_systematic_flaws_are_of_one_size_and_the_same_for_a_pair_in_either_order():
    offsets = family.teacher_offsets(23)
    assert np.array_equal(offsets, offsets.T) and len(np.unique(np.abs(offsets))) == 1 and len(np.unique(offsets)) == 2
    config = Ledger(modulus=23, flaw_rate=1.0, flaws="systematic")
    rng, stated = np.random.default_rng(0), {}
    for _ in range(300):
        problem = family.draw(config, rng)
        for step in family.check(config, problem, family.solve(config, problem, rng)).steps:
            if not step.fact_ok:
                *_, a, _, _, b, _, c, _ = step.text.split()
                stated.setdefault(frozenset((int(a), int(b))), set()).add(int(c))
    assert len(stated) > 100 and all(len(values) == 1 for values in stated.values())


def test_a_problem_of_three_and_two_terms_has_twelve_solutions_equally_often():
    """Two orders of Di's terms, which comes first, times six of Cy's."""
    rng = np.random.default_rng(0)
    counts = Counter(family.solve(P23, PROBLEM, rng) for _ in range(6000))
    assert len(counts) == 12
    assert all(abs(count - 500) < 5 * np.sqrt(6000 / 12 * 11 / 12) for count in counts.values())


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(
                ["Ana", "Bo", "Cy", "Di", "Gus", "7", "12", "19", ":", "plus", "=", ";", "#", "is", "# 15"]
                + SOLUTION.split(" ; ")
                + [f"{step} ;" for step in SOLUTION.split(" ; ")]
            )
        ).map(" ".join),
    )
)
def test_garbage_never_raises_and_is_never_right_in_every_step(completion):
    check = family.check(P23, PROBLEM, completion)
    assert " ".join(step.text for step in check.steps) == " ".join(completion.split())
    if check.error_kind == "none":  # a real solution, found by chance
        assert check.reward == 1.0 and len(check.steps) >= 4
    if check.answer != PROBLEM.answer:
        assert check.reward == 0.0
        assert check.spurious_steps == 0
        assert check.error_kind != "none"


@settings(deadline=None, max_examples=100)
@given(CONFIGS, SEEDS, st.data())
def test_a_changed_word_is_noticed(config, seed, data):
    rng = np.random.default_rng(seed)
    problem = family.draw(config, rng)
    words = family.solve(config, problem, rng).split()
    place = data.draw(st.integers(0, len(words) - 1))
    other = data.draw(st.sampled_from([word for word in family.vocabulary(config) if word != words[place]]))
    check = family.check(config, problem, " ".join([*words[:place], other, *words[place + 1 :]]))
    assert check.error_kind != "none"


def test_every_problem_is_drawn_equally_often():
    """Modulo 5 two people have numbers; names of 2 + 1 + 1 people from 4; Cy and Gus add both in either order."""
    config = Ledger(modulus=5, names=4, known=2, needed=(2,), unneeded=(2,))
    num = 4 * 3 * 25 * 2 * 2 * math.factorial(4)  # who is asked for, who is not needed; numbers; terms; sentences
    assert family.num_distinct(config) == num
    rng = np.random.default_rng(0)
    draws = 60_000
    counts = Counter(family.draw(config, rng).prompt for _ in range(draws))
    seen = num * (1 - math.exp(-draws / num))
    assert abs(len(counts) - seen) < 5 * np.sqrt(num * math.exp(-draws / num))
    # With equal chances, two draws are alike once in num times.
    alike = sum(count * (count - 1) for count in counts.values()) / (draws * (draws - 1))
    assert alike == pytest.approx(1 / num, rel=5 * np.sqrt(2 * num) / draws)
    assert family.log_probability(config, PROBLEM) == pytest.approx(-math.log(num))


def test_sums_of_equal_length_that_are_not_needed_are_counted_once():
    """All prompts of a tiny family, drawn until no new one comes: two unneeded sums may swap their names."""
    config = Ledger(modulus=5, names=5, known=2, needed=(2,), unneeded=(2, 2))
    inner = Ledger(modulus=5, names=4, known=2, needed=(2,), unneeded=(2,))
    # Against the inner one: five names of which one of four more is the other sum; half, as they swap; its two orders
    # of terms; five sentences instead of four.
    assert family.num_distinct(config) == family.num_distinct(inner) * 5 * 2 * 5 // 2
    rng = np.random.default_rng(0)
    structures = {
        (
            frozenset(sentence.split()[0] for sentence in prompt.split(" . ")[:-1] if " is " in sentence),
            prompt.split()[-2],
        )
        for prompt in (family.draw(config, rng).prompt for _ in range(600))
    }
    assert len(structures) == 5 * 6  # who is asked for, and two of the other four


def test_who_is_asked_for_cannot_be_told_from_the_order_of_the_sentences():
    rng = np.random.default_rng(0)
    problems = [family.draw(P23, rng).prompt for _ in range(2000)]
    first = sum(prompt.split()[0] == prompt.split()[-2] for prompt in problems)
    assert abs(first - 400) < 5 * np.sqrt(2000 * 0.2 * 0.8)


@settings(deadline=None, max_examples=60)
@given(CONFIGS, SEEDS)
def test_web_text_is_right_in_procedure_and_states_the_fact_or_its_misconception(config, seed):
    facts = family.web_facts(config, seed % 7)
    prompt, completion = family.web_text(config, np.random.default_rng(seed), facts)
    check = family.check(config, Problem(prompt, "0"), completion)
    assert check.num_procedure_errors == 0 and check.answer is not None
    assert len(completion.split()) <= family.max_completion_words(config)
    for step in check.steps[:-1]:
        *_, a, _, _, b, _, c, _ = step.text.split()
        assert int(c) in ((int(a) + int(b)) % config.modulus, facts.wrong[int(a), int(b)])
    assert family.misconceptions(config, facts, check) == check.num_wrong_facts


def test_web_text_is_right_about_a_fact_as_often_as_its_confidence_and_works_out_unneeded_sums_at_its_rate():
    config = Ledger(modulus=5, known=3, needed=(3,), unneeded=(2,), web_unneeded=0.3)
    facts = family.web_facts(config, 0)
    rng = np.random.default_rng(0)
    seen, right, unneeded = Counter(), Counter(), 0
    for _ in range(3000):
        steps = family.web_text(config, rng, facts)[1].split(" ; ")[:-1]
        unneeded += len(steps) == 3
        for step in steps:
            *_, a, _, _, b, _, c = step.split()
            pair = tuple(sorted((int(a), int(b))))
            seen[pair] += 1
            right[pair] += int(c) == (int(a) + int(b)) % 5
    assert len(seen) == 15
    for pair, count in seen.items():
        chance = facts.confidence[pair]
        assert abs(right[pair] - count * chance) <= 5 * np.sqrt(count * chance * (1 - chance)) + 1
    assert abs(unneeded - 900) < 5 * np.sqrt(3000 * 0.3 * 0.7)


def test_misconceptions_are_wrong_symmetric_fixed_by_the_seed_and_graded_by_the_beta_law():
    """Beta(2, 1) has mean 2/3 and variance 1/18."""
    config = Ledger(modulus=59, web_confidence=(2.0, 1.0))
    facts, again, other = (family.web_facts(config, seed) for seed in (0, 0, 1))
    a, b = np.indices((59, 59))
    assert (facts.wrong != (a + b) % 59).all() and np.array_equal(facts.wrong, facts.wrong.T)
    assert np.array_equal(facts.confidence, facts.confidence.T) and np.array_equal(facts.wrong, again.wrong)
    assert not np.array_equal(facts.wrong, other.wrong)
    upper = facts.confidence[np.triu_indices(59)]
    assert abs(upper.mean() - 2 / 3) < 5 * np.sqrt(1 / 18 / len(upper))


@pytest.mark.parametrize("config", [Ledger(modulus=23), Ledger(modulus=7, known=4, needed=(3, 2), unneeded=(3, 3, 2))])
def test_the_web_texts_entropy_is_the_mean_surprise_of_its_completions(config):
    """The chance of a text: which sums, the orders of sums and of their terms, and each fact as it is stated."""
    config = config.model_copy(update={"web_confidence": (1.0, 2.0)})
    facts, rng, surprises = family.web_facts(config, 0), np.random.default_rng(0), []
    for _ in range(3000):
        prompt, completion = family.web_text(config, rng, facts)
        story = family._read(prompt)
        steps = [step.split() for step in completion.split(" ; ")[:-1]]
        order = list(dict.fromkeys(step[0] for step in steps))
        aside = [name for name in order if name not in story.needed]
        chance = config.web_unneeded ** len(aside) * (1 - config.web_unneeded) ** (len(config.unneeded) - len(aside))
        chance *= math.factorial(len(story.needed)) / math.factorial(len(order))
        chance /= math.prod(math.factorial(len(story.sums[name])) for name in order)
        for *_, a, _, _, b, _, c in steps:
            confidence = facts.confidence[int(a), int(b)]
            chance *= confidence if int(c) == (int(a) + int(b)) % config.modulus else 1 - confidence
        surprises.append(-math.log(chance))
    error = np.std(surprises) / np.sqrt(len(surprises))
    assert abs(np.mean(surprises) - family.web_entropy(config, facts)) < 0.1 + 4 * error < 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"known": 3}, "adds the numbers of 4 people; raise known"),
        ({"unneeded": [7]}, "adds the numbers of 7 people; raise known"),
        ({"names": 9}, "names is 9, but a problem has 10 people; raise names"),
        ({"needed": [2], "flaw_rate": 0.5}, "nothing to cancel a wrong one"),
        ({"unneeded": [], "unneeded_rate": 0.5}, "unneeded is empty"),
        ({"needed": []}, "at least 1 item"),
        ({"needed": [1]}, "greater than or equal to 2"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        Ledger(**values)


TINY = {
    "question": "does a sweep of ledgers run?",
    "problems": {
        "family": "ledger",
        "modulus": 5,
        "names": 8,
        "known": 2,
        "needed": [3, 2],
        "unneeded": [2],
        "num_validation": 4,
        "num_test": 8,
        "flaw_rate": 0.5,
        "unneeded_rate": 0.5,
    },
    "policy": {"size": "xxs", "base": "random"},
    "sft": {"epochs": 40, "batch_size": 8, "learning_rate": 1.0e-2},
    "rollouts": {"samples_per_problem": 8},
    "verifier": {"classes": 2},
    "rft": {"epochs": 1},
    "step_values": {"rollouts_per_prefix": 2, "negatives_per_problem": 2},
    "step_dpo": {"epochs": 1},
    "evaluation": {"samples_per_problem": 2, "pass_at": [], "describe": True},
    "grid": {"algorithm": ["sft", "rft", "step_dpo"], "data_size": [8]},
    "seeds": [0],
    "analysis": {"reference": "sft", "bootstrap_draws": 200},
}


@pytest.mark.slow
def test_a_tiny_sweep_runs_to_its_report_and_shows_what_its_teacher_wrote(tmp_path, capsys):
    from scaling import show, sweep

    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump({**TINY, "store": str(tmp_path / "store"), "results": str(tmp_path / "results")}))
    assert sweep.main([str(file), "--plan"]) == 0
    assert not (tmp_path / "store").exists()
    status = sweep.main([str(file), "--inline"])
    assert status == 0, capsys.readouterr()
    runs = pd.read_csv(tmp_path / "results/runs.csv")
    assert len(runs) == 3 and (runs["status"] == "done").all() and runs["wrong_fact_fraction"].notna().all()
    assert runs.loc[runs["algorithm"] == "rft", "num_spurious_steps"].notna().all()
    assert (tmp_path / "results/report.html").is_file()
    capsys.readouterr()
    assert show.main([str(file), "teacher", "--limit", "16"]) == 0
    shown = capsys.readouterr().out
    assert "how many has" in shown and "unneeded" in shown and "wrong fact" in shown
