"""The stages of a set in plain language: what changes their digests, what they cost, and a sweep's mistakes."""

import pytest
import yaml
from tiny_set import gsm8k_folder, gsm8k_rows

from data.records import write_jsonl
from scaling.config.algorithms import algorithm_names
from scaling.config.errors import ConfigError
from scaling.config.sweep import Cell
from scaling.planning import recipes
from scaling.planning.set_stages import problem_source
from scaling.planning.sweep_file import load_sweep
from scaling.stage import in_order

ALGORITHMS = tuple(algorithm_names())
SIZES = {"num_validation": 6, "num_test": 8}


@pytest.fixture
def folder(tmp_path):
    return gsm8k_folder(tmp_path / "set")


def cell_of(folder, algorithm="rft", **problems):
    settings = {"family": "gsm8k", "path": str(folder), **SIZES, **problems}
    return Cell.of(**{"algorithm": algorithm, "data_size": 8, "problems": settings, "policy": {"hf": "some/policy"}})


def by_kind(cell, seed=0):
    return {stage.kind: stage for stage in in_order([recipes.evaluation(cell, seed)])}


def changed(before, after):
    """The kinds of stages whose digest differs."""
    old, new = by_kind(before), by_kind(after)
    return {kind for kind in old if old[kind].digest != new[kind].digest}


@pytest.mark.parametrize("algorithm", sorted(set(ALGORITHMS) - {"distill"}))  # not of sets in plain language
def test_the_digest_of_the_files_is_part_of_every_stage_and_their_path_of_none(folder, tmp_path, algorithm):
    elsewhere = gsm8k_folder(tmp_path / "elsewhere")
    assert not changed(cell_of(folder, algorithm), cell_of(elsewhere, algorithm))
    for stage in by_kind(cell_of(folder, algorithm)).values():
        assert str(folder) not in str(stage.config)
    other = gsm8k_folder(tmp_path / "other")
    write_jsonl(other / "train.jsonl", gsm8k_rows(1, 30))
    kinds = set(by_kind(cell_of(folder, algorithm)))
    assert changed(cell_of(folder, algorithm), cell_of(other, algorithm)) == kinds - {"pretrain"}


def test_only_the_import_is_told_where_the_files_are(folder):
    for kind, stage in by_kind(cell_of(folder)).items():
        told = {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}
        assert stage.execution == ({"paths": told} if kind == "problem_source" else {})


def test_the_number_of_test_problems_changes_no_training(folder):
    assert changed(cell_of(folder), cell_of(folder, num_test=4)) == {"problems", "evaluation"}


def test_what_is_carved_from_the_training_problems_changes_what_is_learned(folder):
    assert "teacher" in changed(cell_of(folder), cell_of(folder, num_validation=4))


def test_how_steps_are_cut_changes_no_policy_that_learns_from_whole_completions(folder):
    kinds = changed(cell_of(folder, "sft"), cell_of(folder, "sft", step_unit="sentence"))
    assert kinds == set()
    per_step = changed(cell_of(folder, "step_dpo"), cell_of(folder, "step_dpo", step_unit="sentence"))
    assert per_step == {"verification", "step_values", "step_pairs", "dpo", "evaluation"}


def test_the_choice_of_solvable_problems_is_one_stage_for_all_sizes_and_seeds(folder):
    cell = cell_of(folder, solvable={"samples": 4, "num_candidates": 10})
    sizes = [cell, cell.model_copy(update={"data_size": 4})]
    found = {by_kind(one, seed)["solvable"].digest for one in sizes for seed in (0, 1)}
    assert len(found) == 1
    stage = by_kind(cell)["solvable"]
    assert set(stage.inputs) == {"source", "policy", "tokenizer"} and stage.inputs["policy"].kind == "pretrain"
    assert by_kind(cell)["teacher"].inputs["solvable"] == stage
    assert changed(cell_of(folder), cell) == set(by_kind(cell_of(folder))) - {"pretrain", "problem_source", "problems"}


def test_a_set_of_the_hub_is_identified_by_name_subset_and_revision():
    settings = {"data_size": 8, "policy": {"hf": "some/policy"}}
    cells = [Cell.of(**{**settings, "problems": {"family": "gsm8k", **more}}) for more in ({}, {"revision": "a"})]
    stages = [problem_source(cell.problems)["source"] for cell in cells]
    assert stages[0].config["problems"]["hub"] == "openai/gsm8k" and stages[0].config["problems"]["subset"] == "main"
    assert stages[0].digest != stages[1].digest and stages[0].execution == {}


def test_families_that_draw_their_problems_import_nothing():
    cell = Cell.of(**{"data_size": 8, "problems": {"family": "star_graph"}})
    assert not {"problem_source", "solvable"} & set(by_kind(cell))


def sweep_error(tmp_path, **changes):
    document = {
        "question": "Does it load?",
        "problems": {"family": "gsm8k", **SIZES},
        "policy": {"hf": "some/policy"},
        "grid": {"data_size": [8]},
        "seeds": [0],
    }
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**document, **changes}))
    with pytest.raises(ConfigError) as error:
        load_sweep(path)
    return str(error.value)


def test_mistakes_about_a_set_are_found_when_the_sweep_is_read(tmp_path, folder):
    local = {"family": "gsm8k", "path": str(folder), **SIZES}
    assert "policy.hf is not set" in sweep_error(tmp_path, policy={"size": "xs"})
    assert "problems.path is not set" in sweep_error(tmp_path, problems={"family": "jsonl"})
    assert "problems.path is /" in sweep_error(tmp_path, problems={**local, "path": str(tmp_path / "no")})
    assert "neither a file nor a folder" in sweep_error(tmp_path, problems={**local, "path": str(tmp_path / "no")})
    too_many = sweep_error(tmp_path, problems=local, grid={"data_size": [8, 25]})
    assert "data_size is 25, but gsm8k offers 24 training problems besides those held out" in too_many
    filtered = {**local, "solvable": {"num_candidates": 7}}
    assert "num_candidates = 7 of them" in sweep_error(tmp_path, problems=filtered)
    assert "num_test is 13, but the set has 12" in sweep_error(tmp_path, problems={**local, "num_test": 13})
    assert "offers 6961 training problems" in sweep_error(
        tmp_path, problems={"family": "gsm8k"}, grid={"data_size": [8000]}
    )
    assert "min_correct is 5, but only 4" in sweep_error(
        tmp_path, problems={**local, "solvable": {"samples": 4, "min_correct": 5}}
    )
