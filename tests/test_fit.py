"""python -m analysis.fit: anyone's outcomes, curves and surfaces, and what it says of every bad table."""

import json

import numpy as np
import pandas as pd
import pytest
from planted import planted
from test_counts import counted

from analysis.fit import main

SIZES = (64, 128, 256, 512, 1024)


@pytest.fixture(scope="module")
def items():
    return planted({"sft": 1.0, "rft": 2.0}, sizes=SIZES, num_seeds=4, num_problems=300)


def fit(table: pd.DataFrame, folder, *arguments: str, name: str = "table.csv") -> int:
    path = folder / name
    if name.endswith("parquet"):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return main([str(path), "--out", str(folder / "out"), "--draws", "200", *arguments])


def test_item_level_outcomes_give_everything(items, tmp_path, capsys):
    assert fit(items, tmp_path, "--reference", "sft", "--claims", "rft=2") == 0
    out = tmp_path / "out"
    assert {entry.name for entry in out.iterdir()} == {
        *("fits.json", "errors.csv", "multipliers.csv", "tables.tex", "figures"),
        *("report.md", "report.html", "source.txt"),
    }
    document = json.loads((out / "fits.json").read_text())
    panel = document["panels"][""]
    (m,) = (item for item in panel["multipliers"] if item["kind"] == "overall")
    assert m["low"] < 2 < m["high"]
    assert panel["pairing"]["items"] == "shared by all runs"
    text = (out / "report.md").read_text()
    assert "n = 300 test problems, 4 seeds" in text
    assert "greedy" not in text
    assert "python -m analysis.fit table.csv --reference sft --claims rft=2 --draws 200 --seed 0" in text
    assert "RFT" in capsys.readouterr().out


def test_counts_are_marked_as_unpaired_and_wider(items, tmp_path):
    widths = []
    for name, table in (("items", items), ("counts", counted(items))):
        folder = tmp_path / name
        folder.mkdir()
        assert fit(table, folder, "--reference", "sft") == 0
        document = json.loads((folder / "out" / "fits.json").read_text())
        (m,) = (item for item in document["panels"][""]["multipliers"] if item["kind"] == "overall")
        widths.append(np.log(m["high"] / m["low"]))
    assert widths[1] > widths[0]
    assert document["panels"][""]["pairing"]["items"].startswith("unavailable")
    assert "The table has counts only." in (folder / "out" / "report.md").read_text()


def test_parquet_is_read_and_the_same_table_gives_the_same_bytes(items, tmp_path):
    contents = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        assert fit(items, folder, "--reference", "sft", name="table.parquet") == 0
        files = sorted(path for path in (folder / "out").rglob("*") if path.is_file())
        contents.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    assert contents[0] == contents[1]


def _at(row: int, column: str, value: object):
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({column: object})
        table.loc[row, column] = value
        return table

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns=["seed", "wrong"]), "lacks the columns seed, wrong; it needs algorithm, data_size"),
        (_at(7, "wrong", 2), "row 7: wrong is 2; it is 1 for a wrong answer"),
        (_at(7, "wrong", "yes"), "row 7: wrong is yes"),
        (_at(7, "wrong", None), "row 7: wrong is missing; a missing run has no rows at all"),
        (_at(7, "seed", 0.5), "row 7: seed is 0.5; it is a whole number"),
        (_at(7, "data_size", "many"), "row 7: data_size is 'many'; the column holds numbers"),
        (_at(7, "algorithm", None), "row 7: algorithm is missing"),
        (lambda t: pd.concat([t, t.iloc[3:4]]), "repeats algorithm=sft, data_size=64, seed=0, problem=p0003; keep one"),
        (lambda t: t.drop(index=3), "run (sft, data_size=64, seed=0) has 299 of 300 problems; 'p0003' is absent"),
        (lambda t: t[t["data_size"] == 64], "reference sft has 1 data size (64); a curve needs at least 3. Add sizes"),
        (lambda t: t[t["seed"] == 0], "the cell (sft, data_size=64) has 1 run as every cell; an interval needs"),
        (
            lambda t: t[(t["algorithm"] != "sft") | (t["seed"] == 0)],
            "the reference sft has 1 seed, others have up to 4; an interval needs at least 3",
        ),
        (lambda t: t.assign(wrong=0), "the error of sft is 0 at every data size: every problem is solved"),
        (lambda t: t.assign(wrong=t["wrong"].where(t["algorithm"] == "sft", 1)), "the error of rft is 1 at every data"),
        (lambda t: t[t["algorithm"] == "rft"], "no row has the reference 'sft' as its algorithm"),
        (lambda t: t[t["algorithm"] == "sft"], "sft is the only algorithm; a multiplier compares two"),
        (lambda t: t.assign(num_wrong=1), "has both wrong and counts"),
        (_at(7, "data_size", 1e30), "row 7: data_size is 1e+30; it counts unique synthetic problems, at most 1e+15"),
        (lambda t: t[t["problem"] < "p0003"], "has 3 test problems; an interval draws problems again and needs at"),
        (
            lambda t: t.assign(wrong=1 - t["wrong"]),
            "the error of every algorithm rises with data, that of sft from",
        ),
        (lambda t: t.iloc[:0], "the table has no rows"),
        (
            lambda t: t.assign(seed=t["seed"] + 10 * (t["algorithm"] == "rft"))[lambda u: u["seed"] < 12],
            "the cell (rft, data_size=64) has 2 runs and shares no seed with other cells; an interval needs at least 3",
        ),
    ],
)
def test_a_bad_table_is_refused_with_the_place_and_the_cure(items, tmp_path, capsys, change, message):
    assert fit(change(items), tmp_path, "--reference", "sft") == 2
    error = capsys.readouterr().err
    assert message in error
    assert "table.csv" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ("rft=2,rft=3", "has rft 2 times"),
        ("dpo=2", "with one of rft"),
        ("rft", "ALGORITHM=MULTIPLIER"),
        ("rft=much", "such as 2"),
        ("rft=-1", "above 0"),
    ],
)
def test_a_bad_claim_is_refused(items, tmp_path, capsys, claims, message):
    assert fit(items, tmp_path, "--reference", "sft", "--claims", claims) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--reference", "sft", "--x", "D"),
        ("--x", "D"),
        ("--seed", "-1"),
        ("--reference", "sft", "--weights", "seed"),
        ("--reference", "sft", "--form", "pow3"),
        ("--x", "size", "--y", "error", "--claims", "rft=2"),
        ("--x", "size", "--y", "error", "--loss", "squares"),
        ("--pass-at-k", "n,c", "--compare", "rft", "sft"),
        ("--x", "size", "--y", "error", "--ceiling", "4"),
        ("--reference", "sft", "--pass-at-k", "n,c"),
    ],
)
def test_wrong_usage_exits_with_two(items, tmp_path, arguments):
    with pytest.raises(SystemExit) as exit_:
        fit(items.iloc[:5], tmp_path, *arguments)
    assert exit_.value.code == 2


def test_a_file_that_is_not_there_or_no_table_is_named(tmp_path, capsys):
    assert main([str(tmp_path / "none.csv"), "--reference", "sft", "--out", str(tmp_path / "fits")]) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "empty.csv").write_text("")
    assert main([str(tmp_path / "empty.csv"), "--reference", "sft", "--out", str(tmp_path / "fits")]) == 2
    assert "it is empty" in capsys.readouterr().err
    (tmp_path / "empty.csv").write_bytes(b"\xff\x00")
    assert main([str(tmp_path / "empty.csv"), "--reference", "sft", "--out", str(tmp_path / "fits")]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size,error\n64,0.9,1\n128,0.8,1\n", "a row has more values than the header has names"),
        ("size,error\n64,0.9\n128,0.8,1\n", "a row has more values than the header has names"),
        ("size,error,error\n64,0.9,1\n128,0.8,1\n", "it has 2 columns error; rename or delete all but one"),
        ("size,error\n", "the table has no rows"),
    ],
)
def test_a_header_that_does_not_fit_its_rows_is_refused(tmp_path, capsys, text, message):
    (tmp_path / "table.csv").write_text(text)
    asked = ("--x", "size", "--y", "error", "--out", str(tmp_path / "out"))
    assert main([str(tmp_path / "table.csv"), *asked]) == 2
    assert message in capsys.readouterr().err


def curve() -> pd.DataFrame:
    size = np.geomspace(100, 1e5, 10)
    noise = np.random.default_rng(0).normal(0, 0.01, 10)
    return pd.DataFrame({"size": size, "error": (0.1 + 0.6 * (size / 100) ** -0.5) * np.exp(noise)})


def surface() -> pd.DataFrame:
    grid = np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e8, 1e10, 5))
    num_params, data_size = (axis.ravel() for axis in grid)
    noise = np.random.default_rng(0).normal(0, 0.003, 25)
    loss = (1.8 + 480 / num_params**0.35 + 2100 / data_size**0.37) * np.exp(noise)
    return pd.DataFrame({"N": num_params, "D": data_size, "loss": loss})


def test_a_curve_gets_a_form_intervals_and_hold_out_scores(tmp_path):
    assert fit(curve(), tmp_path, "--x", "size", "--y", "error") == 0
    out = tmp_path / "out"
    document = json.loads((out / "fits.json").read_text())
    assert document["kind"] == "curve"
    assert document["chosen_by"] == "hold-out"
    assert {item["form"] for item in document["holdout"]} == {"last1", "pow2", "pow3", "shift4"}
    b = document["parameters"]["b"]
    assert b["low"] < 0.5 < b["high"]
    assert [item["extrapolated"] for item in document["predictions"]] == [False, True, True]
    assert "extrapolated" in (out / "report.md").read_text()
    assert {path.name for path in (out / "figures").iterdir()} == {"fit.png", "fit.svg", "fit.pdf"}
    assert len(pd.read_csv(out / "fit.csv")) == 10


def test_a_rising_column_is_refused_with_the_cure(tmp_path, capsys):
    accuracy = curve().assign(accuracy=lambda table: 1 - table["error"])
    assert fit(accuracy, tmp_path, "--x", "size", "--y", "accuracy") == 2
    error = capsys.readouterr().err
    assert "accuracy rises with size" in error and "add a column of 1 - accuracy" in error
    assert fit(accuracy, tmp_path, "--x", "size", "--y", "accuracy", "--form", "bnsl1") == 2
    assert "accuracy rises with size" in capsys.readouterr().err
    score = surface().assign(score=lambda table: 10 / table["loss"])
    assert fit(score, tmp_path, "--x", "N,D", "--y", "score", "--form", "chinchilla") == 2
    assert "score rises with N" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_parameters_at_a_bound_and_variables_without_effect_are_said(tmp_path, capsys):
    size = np.geomspace(100, 1e5, 10)
    assert (
        fit(pd.DataFrame({"size": size, "loss": size**-0.5}), tmp_path, "--x", "size", "--y", "loss", "--form", "pow3")
        == 0
    )
    said = capsys.readouterr().out
    assert "c is 0, its bound" in said and "c = 0 (at its bound)" in said
    flat = pd.DataFrame({"size": size, "loss": 2 + 0.1 * np.cos(9 * np.arange(10))})
    assert fit(flat, tmp_path, "--x", "size", "--y", "loss", "--form", "pow2") == 0
    assert "does not change with size beyond its scatter" in capsys.readouterr().out
    table = surface()
    noise = np.random.default_rng(1).normal(0, 0.003, len(table))
    table = table.assign(loss=(1.8 + 2100 / table["D"] ** 0.37) * np.exp(noise))
    assert fit(table, tmp_path, "--x", "N,D", "--y", "loss", "--form", "chinchilla") == 0
    said = capsys.readouterr().out
    assert "N has no effect that these points show" in said
    assert "the best N grows" not in said and "alpha - beta" not in said
    table = table.assign(loss=(480 / table["N"] ** 0.35 + 2100 / table["D"] ** 0.37) * np.exp(noise))
    assert fit(table, tmp_path, "--x", "N,D", "--y", "loss", "--form", "chinchilla") == 0
    assert "E is 0, its bound" in capsys.readouterr().out


def test_an_interval_that_ends_at_a_bound_of_the_search_says_so(tmp_path, capsys):
    flat = curve().assign(error=[0.3, 0.5, 0.2, 0.6, 0.25, 0.55, 0.3, 0.6, 0.3, 0.4])
    assert fit(flat, tmp_path, "--x", "size", "--y", "error", "--form", "shift4") == 0
    said = capsys.readouterr().out
    assert "ends at a bound of the search: the points do not limit it there" in said
    region = fitted(tmp_path)["joint_region"]["outline"]
    assert all(0 <= c <= 0.6 and 1e-4 <= b <= 5 * (1 + 1e-9) for c, b in region)


def test_a_columns_name_may_hold_commas_and_its_numbers_may_be_grouped(tmp_path):
    grouped = curve().assign(size=[f"{size:,.0f}" for size in curve()["size"]])
    named = grouped.rename(columns={"size": "size, problems"})
    assert fit(named, tmp_path, "--x", "size, problems", "--y", "error") == 0
    assert fitted(tmp_path)["x"] == ["size, problems"]
    assert pd.read_csv(tmp_path / "out" / "fit.csv")["x"].max() == 100_000


def test_a_surface_gets_intervals_and_a_hold_out_score(tmp_path):
    assert fit(surface(), tmp_path, "--x", "N,D", "--y", "loss", "--form", "chinchilla") == 0
    document = json.loads((tmp_path / "out" / "fits.json").read_text())
    assert document["kind"] == "surface"
    for name, planted_value in (("E", 1.8), ("alpha", 0.35), ("beta", 0.37)):
        assert document["parameters"][name]["low"] < planted_value < document["parameters"][name]["high"]
    assert document["holdout"]["surface"] < document["holdout"]["last1"]


def fitted(folder) -> dict:
    return json.loads((folder / "out" / "fits.json").read_text())


@pytest.mark.parametrize("form", ["hill", "bnsl1"])
def test_a_bend_is_fitted_on_request_beside_the_usual_forms(tmp_path, form):
    assert fit(curve(), tmp_path, "--x", "size", "--y", "error", "--form", form) == 0
    document = fitted(tmp_path)
    assert (document["form"], document["chosen_by"]) == (form, "request")
    assert [item["form"] for item in document["forms"]] == ["pow2", "pow3", "shift4", form]


def test_what_points_leave_open_about_a_bend_is_said(tmp_path, capsys):
    size = np.geomspace(1, 300, 10)
    early = pd.DataFrame({"size": size, "error": 0.1 + 0.8 / (1 + (size / 1e4) ** 0.7)})
    assert fit(early, tmp_path, "--x", "size", "--y", "error", "--form", "hill") == 0
    assert "do not reach the middle of the fall" in capsys.readouterr().out


def test_weights_are_a_column_and_only_their_ratios_matter(tmp_path):
    table = curve().assign(runs=np.arange(1, 11), variances=np.arange(1, 11) / 7)
    found = []
    for column in ("runs", "variances"):
        assert fit(table, tmp_path, "--x", "size", "--y", "error", "--form", "pow2", "--weights", column) == 0
        document = fitted(tmp_path)
        assert document["weights"] == column
        found.append(document["parameters"]["b"]["estimate"])
    slope, _ = np.polyfit(np.log(table["size"]), np.log(table["error"]), 1, w=np.sqrt(table["runs"]))
    assert found == pytest.approx([-slope, -slope], rel=1e-8)
    assert "--weights variances" in (tmp_path / "out" / "report.md").read_text()


def test_predictions_have_intervals_and_extrapolation_is_marked(tmp_path, capsys):
    asked = ("--predict", "4096", "--predict", "size=1e6")
    assert fit(curve(), tmp_path, "--x", "size", "--y", "error", "--form", "pow3", *asked) == 0
    inside, beyond = fitted(tmp_path)["predictions"][3:]
    truth = 0.1 + 0.6 * 40.96**-0.5
    assert inside["new_run_low"] < inside["low"] < truth < inside["high"] < inside["new_run_high"]
    assert (inside["extrapolated"], beyond["extrapolated"]) == (False, True)
    assert "Extrapolated: 10 times the largest size." in capsys.readouterr().out


def test_a_surface_is_predicted_at_a_point_and_compared_with_one_exponent(tmp_path, capsys):
    asked = ("--predict", "D=1e12,N=7e9")
    assert fit(surface(), tmp_path, "--x", "N,D", "--y", "loss", "--form", "chinchilla", *asked) == 0
    (prediction,) = fitted(tmp_path)["predictions"]
    assert prediction["low"] < 1.8 + 480 / 7e9**0.35 + 2100 / 1e12**0.37 < prediction["high"]
    assert prediction["beyond"] == "7 times the largest N and 100 times the largest D"
    assert "one exponent for both" in capsys.readouterr().out
    assert fit(surface(), tmp_path, "--x", "N,D", "--y", "loss", "--form", "chinchilla_shared") == 0
    document = fitted(tmp_path)
    assert document["parameters"]["alpha"] == document["parameters"]["beta"]
    own, shared = document["compared"]
    assert own["objective_value"] <= shared["objective_value"]


def test_isoflop_minima_are_reported(tmp_path, capsys):
    compute = np.repeat([1e18, 1e19, 1e20], 7)
    size = 1e-2 * compute**0.5 * np.tile(np.geomspace(0.2, 5, 7), 3)
    miss = np.random.default_rng(0).normal(0, 1e-3, 21)
    loss = 2 + 1e3 * compute**-0.15 + 0.05 * np.log(size / (1e-2 * compute**0.5)) ** 2 + miss
    table = pd.DataFrame({"C": compute, "N": size, "loss": loss})
    arguments = ("--x", "C,N", "--y", "loss", "--form", "isoflop", "--predict", "1e21")
    assert fit(table, tmp_path, *arguments) == 0
    document = fitted(tmp_path)
    assert document["parameters"]["a"]["low"] < 0.5 < document["parameters"]["a"]["high"]
    assert document["predictions"][0]["low"] < 1e-2 * 1e21**0.5 < document["predictions"][0]["high"]
    assert "The best N grows as C^0.4993 (" in capsys.readouterr().out
    assert fit(table.assign(C=table["C"] * (1 + 0.01 * np.arange(21))), tmp_path, *arguments) == 2
    assert "Rows of one budget need the same value of compute" in capsys.readouterr().err


def samples() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    correct = generator.binomial(64, generator.beta(0.4, 1.0, 120))
    return pd.DataFrame({"samples": 64, "correct": correct})


def test_pass_at_k_is_estimated_and_its_error_fitted(tmp_path, capsys):
    assert fit(samples(), tmp_path, "--pass-at-k", "samples,correct", "--predict", "128") == 0
    document = fitted(tmp_path)
    first = document["pass_at_k"][0]
    assert first["pass_at_k"] == pytest.approx((samples()["correct"] / 64).mean())
    assert first["low"] < first["pass_at_k"] < first["high"]
    assert [item["k"] for item in document["pass_at_k"]] == [1, 2, 4, 8, 16, 32, 64]
    assert "new_run_low" not in document["predictions"][-1]
    assert "pass@64 is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "arguments", "message"),
    [
        (curve().assign(w=0), ("--weights", "w"), "row 0: w is 0; it is a finite number above 0, an inverse variance"),
        (curve(), ("--weights", "w"), "lacks the columns w"),
        (curve(), ("--predict", "many"), "--predict is 'many'; size is a finite number above 0, such as size=4096"),
        (curve(), ("--predict", "N=7,D=8"), "it gives one number for each of size: size=4096"),
        (curve(), ("--predict", "-4"), "size is a finite number above 0"),
        (curve().iloc[:6], ("--form", "bnsl1"), "6 distinct sizes, and bnsl1 needs 7"),
        (curve(), ("--form", "isoflop"), "--x names 1 columns, and the form isoflop has 2; name compute and N"),
    ],
)
def test_bad_weights_places_and_forms_are_refused(tmp_path, capsys, table, arguments, message):
    assert fit(table, tmp_path, "--x", "size", "--y", "error", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        (lambda t: t, "samples", "names 1 columns; it takes two"),
        (lambda t: t, "n,correct", "lacks the columns n"),
        (lambda t: t.assign(correct=65), "samples,correct", "row 0: samples is 64 and correct is 65"),
        (lambda t: t.assign(correct=0.5), "samples,correct", "these are whole numbers"),
        (lambda t: t.assign(correct=64), "samples,correct", "every sample is right, so that there is no curve"),
        (lambda t: t.assign(correct=64 * (t["correct"] > 20)), "samples,correct", "always solved or never"),
        (lambda t: t.assign(samples=1, correct=t["correct"] % 2), "samples,correct", "the fewest samples of a problem"),
        (lambda t: t.assign(correct=0), "samples,correct", "no problem is ever solved"),
        (lambda t: t.iloc[:2], "samples,correct", "has 2 problems; an interval over problems needs 3"),
        (lambda t: t.assign(samples=2, correct=t["correct"] % 2), "samples,correct", "the fewest samples of a problem"),
    ],
)
def test_bad_counts_of_samples_are_refused(tmp_path, capsys, change, columns, message):
    assert fit(change(samples()), tmp_path, "--pass-at-k", columns) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_draws_are_counted_on_a_terminal_only(tmp_path, capsys, monkeypatch):
    arguments = ("--x", "N,D", "--y", "loss", "--form", "chinchilla")
    assert fit(surface(), tmp_path, *arguments) == 0
    assert "draws" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert fit(surface(), tmp_path, *arguments) == 0
    assert "bootstrap: 200 of 200 draws" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "arguments", "message"),
    [
        (curve().rename(columns={"size": "n"}), ("--x", "size"), "lacks the columns size; it has n, error"),
        (curve().replace({"error": {curve()["error"][4]: np.nan}}), ("--x", "size"), "row 4: error is missing"),
        (curve().assign(error=0.0), ("--x", "size"), "row 0: error is 0.0; it is a finite number above 0"),
        (curve().assign(error="x"), ("--x", "size"), "row 0: error is x"),
        (curve().assign(error=0.5), ("--x", "size"), "error is 0.5 in every row"),
        (curve().assign(error=[0.3, 0.1 + 0.2] * 5), ("--x", "size"), "error is 0.3 in every row"),
        (curve().iloc[:1], ("--x", "size"), "1 distinct sizes, and pow2 needs 3"),
        (
            curve().assign(size="64 problems"),
            ("--x", "size"),
            "size is 64 problems; the column holds numbers",
        ),
        (pd.concat([curve(), curve().iloc[2:3]]), ("--x", "size"), "row 10 repeats an earlier row in every column"),
        (curve().iloc[:2], ("--x", "size"), "2 distinct sizes, and pow2 needs 3"),
        (curve().iloc[:0], ("--x", "size"), "the table has no rows"),
        (curve(), ("--x", "size,error"), "--x names 2 columns, and the form auto has 1"),
        (curve(), ("--x", "size", "--form", "chinchilla"), "--x names 1 columns, and the form chinchilla has 2"),
        (curve(), ("--x", "error"), "each column can be used once"),
    ],
)
def test_bad_points_are_refused_with_the_place_and_the_cure(tmp_path, capsys, table, arguments, message):
    assert fit(table, tmp_path, *arguments, "--y", "error") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[:5], "there are 5 points"),
        (lambda t: t[t["N"] < 2e7].assign(D=np.geomspace(1e8, 1e10, 5)), "there are 5 points"),
        (lambda t: t[t["N"] < 4e7], "N has 2 distinct values; its exponent needs 3"),
        (lambda t: t.assign(D=20 * t["N"]), "N and D grow together in every row"),
    ],
)
def test_a_surface_that_cannot_be_told_is_refused(tmp_path, capsys, change, message):
    assert fit(change(surface()), tmp_path, "--x", "N,D", "--y", "loss", "--form", "chinchilla") == 2
    assert message in capsys.readouterr().err


def test_outcomes_take_a_ceiling_and_predict_m_and_a_new_run_at_any_size(tmp_path, capsys):
    file = tmp_path / "outcomes.csv"
    planted({"sft": 1.0, "rft": 2.0}, num_problems=100).to_csv(file, index=False)
    asked = ("--claims", "rft=8", "--ceiling", "4.5", "--predict", "300", "--draws", "200")
    assert main([str(file), "--reference", "sft", *asked, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "cannot be tested" in said and "worth more than 4.50x" in said
    panel = json.loads((tmp_path / "out" / "fits.json").read_text())["panels"][""]
    assert panel["ceiling"] == {str(size): 4.5 for size in (64, 128, 256, 512, 1024)}
    (found,) = panel["predictions"]
    assert found["data_size"] == 300 and found["new_run_low"] < found["low"] < 2 < found["high"] < found["new_run_high"]
    report = (tmp_path / "out" / "report.md").read_text()
    assert "Multipliers at chosen sizes" in report and "--ceiling 4.5 --predict 300 " in report
    for wrong, text in (("--predict", "x"), ("--ceiling", "64=2,65=3"), ("--ceiling", "much")):
        assert main([str(file), "--reference", "sft", wrong, text, "--out", str(tmp_path / "out")]) == 2
        assert f"{wrong} is '{text}'" in (said := capsys.readouterr().err) or "the ceiling at D = 65 is 3.0" in said
