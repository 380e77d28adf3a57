"""Sections of a stage's config: what a recipe leaves out cannot be read in the stage."""

import pytest
import yaml

from scaling.config.policy import Lora, Policy
from scaling.config.problems import problems_of
from scaling.config.sampling import CriticalSteps, Evaluation, StepValues
from scaling.config.section import LATER, is_stated, parse, part, plain
from scaling.config.text_problems import Gsm8k, Solvable
from scaling.config.training import Rft
from scaling.planning.grid import cells
from scaling.planning.recipes import rft_policy
from scaling.planning.sweep_file import load_sweep

CURE = r"{} has no {} here: .* leaves the key out .*Add it in the recipe \(and bump the kind's version\), or do not"


def test_a_dropped_key_is_an_error_that_names_the_cure_and_never_its_default():
    rft = parse(Rft, plain(Rft(max_positives=64, epochs=3), {"max_positives"}))
    assert rft.epochs == 3 and rft.keep == "distinct"
    with pytest.raises(AttributeError, match=CURE.format("Rft", "max_positives")):
        rft.max_positives  # noqa: B018


def test_a_name_that_no_section_has_is_the_usual_error():
    with pytest.raises(AttributeError, match="'Rft' object has no attribute 'max_positivs'"):
        Rft().max_positivs  # noqa: B018


@pytest.mark.parametrize(
    ("schema", "key", "default", "other"),
    [
        (Evaluation, "describe", False, True),
        (Evaluation, "max_new_tokens", None, 9),
        (StepValues, "adaptive", False, True),
        (Policy, "compute_dtype", "float32", "bfloat16"),
        (Solvable, "max_new_tokens", None, 9),
    ],
)
def test_a_later_key_is_left_out_at_its_default_and_read_as_it(schema, key, default, other):
    assert LATER in schema.model_fields[key].metadata
    assert key not in plain(schema()) and getattr(parse(schema, plain(schema())), key) == default
    changed = plain(schema(**{key: other}))
    assert changed[key] == other and getattr(parse(schema, changed), key) == other


def test_a_key_that_old_configs_lack_is_written_and_read_as_its_default_without_it():
    assert plain(StepValues())["best_of"] == 1
    assert parse(StepValues, plain(StepValues(), {"best_of"})).best_of == 1


def test_a_section_within_a_section_is_as_strict():
    stated = {"samples_per_problem": 2, "critical_steps": {"problems": 3}}
    evaluation = parse(Evaluation, {**stated, "pass_at": [2]})
    assert isinstance(evaluation.critical_steps, CriticalSteps) and evaluation.critical_steps.problems == 3
    with pytest.raises(AttributeError, match=CURE.format("CriticalSteps", "traces")):
        evaluation.critical_steps.traces  # noqa: B018
    gsm8k = problems_of({"problems": {**plain(Gsm8k()), "solvable": {"samples": 2}}})
    with pytest.raises(AttributeError, match=CURE.format("Solvable", "shots")):
        gsm8k.solvable.shots  # noqa: B018
    assert parse(Policy, {"lora": plain(Lora(rank=4))}).lora == Lora(rank=4)


def test_a_stage_can_ask_whether_its_config_states_a_key():
    answering = problems_of({"problems": {"family": "gsm8k", "answer_forms": ["boxed"]}})
    assert is_stated(answering, "answer_forms") and not is_stated(answering, "step_unit")


def test_a_part_of_a_section_cannot_be_read_beyond_it():
    adapters = parse(Lora, part(Lora(rank=4), {"rank", "alpha"}))
    with pytest.raises(AttributeError, match=CURE.format("Lora", "targets")):
        adapters.targets  # noqa: B018


def test_the_rft_stage_of_a_sweep_cannot_read_the_number_of_positives_that_another_stage_chose(tmp_path):
    document = {"question": "Does it?", "rft": {"max_positives": 64}, "grid": {"algorithm": ["rft"]}, "seeds": [0]}
    path = tmp_path / "positives.yaml"
    path.write_text(yaml.safe_dump({**document, "problems": {"family": "modular_sum"}}))
    (cell,) = cells(load_sweep(path))
    stage = rft_policy(cell, 0)
    assert stage.inputs["positives"].config["positives"]["max_positives"] == 64
    settings = parse(Rft, stage.config["rft"])
    for key in ("max_positives", "keep", "pool_rounds"):
        with pytest.raises(AttributeError, match=CURE.format("Rft", key)):
            getattr(settings, key)
    assert settings.start == cell.section(Rft).start
