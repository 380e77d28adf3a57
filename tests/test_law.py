"""The law of multipliers: planted parameters come back, and what is held out does not move what is predicted."""

import shutil

import numpy as np
import pandas as pd
import pytest

from benchmarks.law import (
    DATA_SIZE,
    EXACT,
    REGIME,
    ROUNDS,
    Law,
    fit,
    in_one_round,
    main,
    observed,
    off_by,
    ratios,
    runs_of,
    shares,
    wins,
)
from benchmarks.spoiled import CLASSES, FLAW, OUT, SHIPPED

PLANTED = Law(0.3, 1.5, 0.6)


def planted() -> pd.DataFrame:
    levels = [(0.0, EXACT, 0.0), (0.3, EXACT, 0.1), (0.6, EXACT, 0.2), (0.0, 5, 0.3), (0.0, 3, 0.5)]
    cells = [(*level, name, 1, 256) for level in levels for name in ("rft", "step_dpo")]
    rows = pd.DataFrame(cells, columns=[*REGIME, "spurious", "algorithm", "rounds", "data_size"])
    return rows.assign(observed=np.exp(PLANTED.log_m(rows)))


def test_a_learner_of_a_clean_teacher_and_verifier_closes_its_share_of_what_is_reachable():
    rows = pd.DataFrame({"flaw_rate": [0.0], "spurious": [0.0], "algorithm": ["rft"], "rounds": [1]})
    # of a factor of 4 half is closed when 64^-theta is 1 / 2
    assert np.exp(Law(1 / 6, 9.0, 9.0).log_m(rows)) == pytest.approx(2.0)
    flawed = rows.assign(flaw_rate=0.75)  # half of its steps are wrong: 1 / 8 of the sums come in threes
    assert np.exp(Law(1 / 6, 9.0, 9.0).log_m(flawed)) == pytest.approx((4 * 8) ** 0.5)
    halved = rows.assign(spurious=0.5, algorithm="step_dpo")
    assert np.exp(Law(1 / 6, 4.0, 0.5).log_m(halved)) == pytest.approx((4 * 0.5**2) ** 0.5)


def test_planted_parameters_come_back():
    assert fit(planted()) == pytest.approx(PLANTED, rel=1e-4)


@pytest.mark.parametrize("keep", [slice(0, 8), slice(0, 6)])
def test_too_few_multipliers_are_refused(keep):
    with pytest.raises(ValueError, match="its three parameters need at least 9 of 4"):
        fit(planted().iloc[keep])


def test_errors_are_factors_and_an_unread_multiplier_is_no_error():
    rows = pd.DataFrame(
        {
            "flaw_rate": 0.0,
            "classes": [8, 8, 5, 3],
            "law": [2.0, 4.0, 3.0, 1.0],
            "counts": [3.0, 4.0, 2.5, 1.0],
            "constant": [9.0, 9.0, 9.0, 9.0],
            "observed": [1.0, 8.0, 2.5, 0.0],
        }
    )
    assert off_by(rows.iloc[:2], "law") == pytest.approx(2.0)
    assert wins(rows) == [(0.0, 8)]


def test_a_ratio_needs_both_learners_in_a_regime():
    rows = pd.DataFrame(
        {
            "flaw_rate": 0.0,
            "classes": [8, 8, 3],
            "algorithm": ["rft", "step_dpo", "rft"],
            "rounds": 1,
            "data_size": 256,
            **{name: [2.0, 3.0, 1.0] for name in ("law", "counts", "one_round", "observed")},
        }
    )
    assert ratios(rows)["law"].tolist() == [1.5]


def test_multipliers_are_the_ones_of_the_page():
    runs = {name: runs_of(SHIPPED / name) for name in ("paper_flaws", "paper_verifier")}
    page = pd.read_csv(OUT / "spoiled.csv")
    rows = in_one_round(page, shares(pd.concat(runs.values())))
    assert len(rows) == 40  # 7 regimes, 2 learners and 3 sizes, without 2 that lie below SFT's first size
    for name, part in (("paper_flaws", rows["classes"] == EXACT), ("paper_verifier", rows["flaw_rate"] == 0)):
        assert observed(runs[name], rows[part]) == pytest.approx(rows["observed"][part], rel=1e-3)


def test_what_is_held_out_fills_the_observed_column_and_moves_no_prediction(tmp_path):
    for name in ("paper_flaws", "paper_verifier"):
        (tmp_path / name).mkdir()
        shutil.copy(SHIPPED / name / "runs.csv", tmp_path / name)
    before, after = tmp_path / "before", tmp_path / "after"
    for out in (before, after):
        out.mkdir()
    main(["--results", str(tmp_path), "--out", str(before)])
    runs = pd.concat([pd.read_csv(SHIPPED / name / "runs.csv") for name in ("paper_flaws", "paper_verifier")])
    runs[CLASSES] = runs.get(CLASSES)
    later = runs[runs["data_size"] == DATA_SIZE].assign(rounds=ROUNDS, error=0.25)
    sft = runs[runs["algorithm"].str.startswith("sft") & runs[FLAW].notna()]
    (tmp_path / "paper_rounds").mkdir()
    pd.concat([sft, later[~later["algorithm"].str.startswith("sft")]]).to_csv(
        tmp_path / "paper_rounds" / "runs.csv", index=False
    )
    main(["--results", str(tmp_path), "--out", str(after)])
    old, new = (pd.read_csv(out / "law.csv") for out in (before, after))
    asked = new["rounds"] == ROUNDS
    assert old.loc[asked, "observed"].isna().all() and new.loc[asked, "observed"].notna().all()
    assert asked.sum() == 14
    pd.testing.assert_frame_equal(old.drop(columns="observed"), new.drop(columns="observed"))


def test_the_table_of_the_repository_is_what_the_command_writes(tmp_path):
    main(["--out", str(tmp_path)])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "law.csv"), pd.read_csv(OUT / "law.csv"), rtol=2e-3)
