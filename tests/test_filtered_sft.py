"""algorithms.filtered_sft: which solutions a flawed teacher's filter keeps."""

import json

import numpy as np
import pytest
from one_run import cell_of
from stage_config import whole
from tiny_chain import PROBLEMS

from algorithms import filtered_sft
from data.problems.families import family_of
from data.records import read_jsonl, read_problems, write_jsonl
from data.teacher.synthetic import run as teach
from scaling.config.problems import ModularSum
from scaling.config.training import FilteredSft
from scaling.planning.recipes import filtered_sft_policy, sft_policy
from scaling.stage import in_order

FLAWED = {"family": "modular_sum", "modulus": 11, "operands": 3, "num_validation": 4, "num_test": 8, "flaw_rate": 0.5}


@pytest.fixture
def synthetic(tmp_path):
    out = tmp_path / "teacher"
    out.mkdir()
    teach(whole({"problems": FLAWED, "teacher": {}, "data_size": 60, "seed": 3}), {}, out)
    return out


def filtered(synthetic, out, **settings):
    out.mkdir()
    numbers = filtered_sft.run(whole({"problems": FLAWED, "filter": settings}), {"synthetic": synthetic}, out)
    return numbers, read_problems(out / "synthetic.jsonl")


def test_right_steps_keeps_the_unflawed_solutions_as_they_are(synthetic, tmp_path):
    numbers, kept = filtered(synthetic, tmp_path / "out", keep="right_steps")
    config = ModularSum.model_validate({key: value for key, value in FLAWED.items() if key != "family"})
    every = read_problems(synthetic / "synthetic.jsonl")
    wrong = [family_of(config).check(config, problem, problem.solution).wrong_steps for problem in every]
    assert kept == [problem for problem, count in zip(every, wrong, strict=True) if count == 0]
    assert 0.3 < numbers["kept_fraction"] < 0.7 and numbers["num_problems"] == len(kept)


def test_small_loss_keeps_the_smallest_mean_losses(synthetic, tmp_path, monkeypatch):
    losses = np.random.default_rng(0).permutation(60).astype(float)
    monkeypatch.setattr(filtered_sft, "judged", lambda config, inputs: (losses, 0.0))
    numbers, kept = filtered(synthetic, tmp_path / "out", keep="small_loss", keep_fraction=0.25)
    every = read_problems(synthetic / "synthetic.jsonl")
    assert kept == [problem for problem, loss in zip(every, losses, strict=True) if loss < 15]
    assert numbers["kept_fraction"] == 0.25


def test_of_equal_losses_the_first_stay_and_a_fraction_is_rounded_up():
    assert filtered_sft.smallest(np.zeros(5), 0.5).tolist() == [True, True, True, False, False]
    assert filtered_sft.smallest(np.array([2.0, 0.0, 1.0]), 1.0).all()
    assert filtered_sft.smallest(np.zeros(100), 0.55).sum() == 55


@pytest.mark.slow
def test_the_trained_policys_loss_is_larger_on_another_solution(values_chain, tmp_path):
    config = whole({"problems": PROBLEMS})
    mine, flops = filtered_sft.judged(config, values_chain.inputs(synthetic="synthetic", judge="sft"))
    rows = read_jsonl(values_chain["synthetic"] / "synthetic.jsonl")
    swapped = [{**row, "completion": other["completion"]} for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]
    write_jsonl(tmp_path / "synthetic.jsonl", swapped)
    others, _ = filtered_sft.judged(config, {"synthetic": tmp_path, "judge": values_chain["sft"]})
    assert len(mine) == len(rows) and 0 < mine.mean() < others.mean() and flops > 0


def test_nothing_kept_is_an_error(synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(filtered_sft, "right_steps", lambda config, rows: np.zeros(len(rows), bool))
    with pytest.raises(ValueError, match="no solution is kept"):
        filtered(synthetic, tmp_path / "out", keep="right_steps")


def test_it_trains_as_sft_does_on_what_the_filter_kept():
    cell = cell_of("filtered_sft")
    stage, plain = filtered_sft_policy(cell, 0), sft_policy(cell, 0)
    assert stage.kind == "sft" and stage.config == plain.config
    assert stage.inputs["synthetic"].inputs["synthetic"] == plain.inputs["synthetic"]
    assert [one.kind for one in in_order([stage])] == ["pretrain", "teacher", "filtered", "sft"]
    by_loss = cell.model_copy(update={"filtered_sft": FilteredSft(keep="small_loss")})
    assert sft_policy(cell, 0) in in_order([filtered_sft_policy(by_loss, 0)])
    assert json.dumps(filtered_sft_policy(by_loss, 0).inputs["synthetic"].config["filter"]) == (
        '{"keep": "small_loss", "keep_fraction": 0.5}'
    )
