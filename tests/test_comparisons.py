"""Two algorithms against each other: in a table, in a sweep's report, and what is refused."""

import json
from types import SimpleNamespace

import pytest
from planted import SIZES, planted

from analysis.fit import main
from analysis.multipliers.estimates import RatioAt
from analysis.page.parts import Parts
from analysis.page.rendering import escaped
from analysis.page.wording import SWEEP
from analysis.reporting.study_sections import study_sections
from analysis.tables.outcomes import from_table
from analysis.verdicts.panel import Question, analysed, compared, equivalence
from analysis.verdicts.study import analyse
from scaling.config.errors import ConfigError
from scaling.planning.sweep_file import load_sweep

WIDE = (*SIZES, 2048, 4096)


@pytest.fixture(scope="module")
def table():
    found = planted({"sft": 1.0, "rft": 2.0, "step_dpo": 4.0}, WIDE, num_problems=300, seed=3)
    return found[(found["algorithm"] == "sft") | (found["data_size"] <= SIZES[-1])]


def test_a_comparison_is_the_study_of_the_two_alone(table):
    outcomes = from_table(table)
    panel = analysed(outcomes, Question("sft", {}, 200, 0, compare=(("step_dpo", "rft"),)))
    (study,) = panel.comparisons
    alone = analyse(outcomes.part(["rft", "step_dpo"]), "rft", {}, 200, 0)
    assert (study.reference, study.verdicts) == ("rft", alone.verdicts)
    found = [item for item in study.multipliers if item.kind == "pointwise" and item.data_size <= 256]
    assert len(found) == 3 and all(item.low <= 2.0 <= item.high for item in found)


def test_a_name_stands_for_its_variants():
    names = ("sft", "rft, K=4", "rft, K=16", "dpo")
    assert compared([("rft", "dpo")], names) == [("rft, K=4", "dpo"), ("rft, K=16", "dpo")]
    assert compared([("rft, K=16", "rft, K=4"), ("rft", "rft")], names)[0] == ("rft, K=16", "rft, K=4")
    assert compared([("step_dpo", "dpo")], names) == []


def test_the_command_writes_comparisons_and_a_papers_tables(table, tmp_path, capsys):
    table.to_csv(tmp_path / "runs.csv", index=False)
    command = [str(tmp_path / "runs.csv"), "--reference", "sft", "--draws", "200", "--out", str(tmp_path / "out")]
    assert main([*command, "--compare", "step_dpo", "rft"]) == 0
    assert "Per-step DPO" in capsys.readouterr().out
    entry = json.loads((tmp_path / "out" / "fits.json").read_text())["panels"][""]["comparisons"][0]
    assert entry["reference"] == "rft" and entry["verdicts"][0]["algorithm"] == "step_dpo"
    report = (tmp_path / "out" / "report.md").read_text()
    assert "## Algorithms compared with each other" in report and "--compare step_dpo rft" in report
    text = (tmp_path / "out" / "tables.tex").read_text()
    assert text.count(r"\begin{tabular}") == text.count(r"\bottomrule") == 3
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert rows and all(line.count(" & ") >= 4 for line in rows)


@pytest.mark.parametrize(
    ("pair", "message"),
    [(("dpo", "rft"), "--compare names 'dpo', but the table's algorithms are sft, rft, step_dpo"),
     (("rft", "rft"), "--compare names 'rft' twice")],
)  # fmt: skip
def test_pairs_that_are_not_two_algorithms_of_the_table_are_refused(table, pair, message, tmp_path, capsys):
    table.to_csv(tmp_path / "runs.csv", index=False)
    command = [str(tmp_path / "runs.csv"), "--reference", "sft", "--out", str(tmp_path / "out"), "--compare", *pair]
    assert main(command) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pair", "message"),
    [(["rft", "dpo"], r"analysis.compare\[0\] names 'dpo', which no cell of the grid runs; the grid runs sft, rft"),
     (["rft", "sftt"], "Did you mean 'sft'"),
     (["rft", "rft"], r"analysis.compare\[0\] names 'rft' twice")],
)  # fmt: skip
def test_pairs_of_a_sweep_are_checked_before_it_runs(pair, message, tmp_path):
    file = tmp_path / "sweep.yaml"
    grid = "grid: {algorithm: [sft, rft], data_size: [64]}\nseeds: [0]\nquestion: which?\n"
    file.write_text(f"{grid}analysis: {{compare: [{json.dumps(pair)}]}}\n")
    with pytest.raises(ConfigError, match=message):
        load_sweep(file)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.81, 1.24, "EQUAL"),
        (0.79, 1.1, "UNDECIDED"),
        (0.9, 1.3, "UNDECIDED"),
        (0.5, 0.79, "DIFFERENT"),
        (1.3, 2.0, "DIFFERENT"),
        (0.1, 9.0, "UNDECIDED"),
    ],
)
def test_equal_means_that_the_whole_interval_is_within_the_margin(low, high, word):
    one = SimpleNamespace(estimate=(low * high) ** 0.5, low=low, high=high)
    sentence = equivalence(company(), pair(one), 1.25)
    assert sentence.startswith("Per-step DPO and AWR within 1/1.25 to 1.25: ") and f": {word}, the ratio" in sentence


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        (
            [(0.4, 0.6), (1.6, 2.4)],
            "DIFFERENT, the ratio is 0.49 (0.40 to 0.60) at D = 64 and 1.96 (1.60 to 2.40) at D",
        ),
        ([(0.9, 1.1), (1.0, 1.3)], "UNDECIDED, the ratio is 0.99 (0.90 to 1.10) at D = 64"),
        ([(0.9, 1.1), (1.3, 1.8)], "DIFFERENT, the ratio is"),  # at one size
        ([(0.9, 1.1), (0.85, 1.2)], "EQUAL, the ratio is"),
        ([(0.9, 1.1)], "cannot be said, since at D = 128 the range of SFT does not give both"),
        ([], "cannot be said, since at D = 64 and 128 the range of SFT does not give both"),
    ],
)
def test_without_one_number_the_ratios_at_all_sizes_decide(limits, verdict):
    points = [
        RatioAt(size, (low * high) ** 0.5, low, high) for size, (low, high) in zip((64, 128), limits, strict=False)
    ]
    assert f": {verdict}" in equivalence(company(points), pair(None), 1.25)
    assert "no data size in common" in equivalence(company(points), pair(None, awr=(256,)), 1.25)


def pair(one, awr=(64, 128)):
    sizes = {"awr": awr, "step_dpo": (64, 128)}
    outcomes = SimpleNamespace(algorithms=list(sizes), sizes_of=sizes.get)
    return SimpleNamespace(outcomes=outcomes, reference="awr", overall=lambda name: one)


def company(points=()):
    return SimpleNamespace(study=SimpleNamespace(reference="sft", ratios_at_sizes=lambda *names: points))


def test_ratios_at_sizes_hold_the_planted_ratio_at_every_size():
    found = planted({"sft": 1.0, "rft": 2.0, "step_dpo": 4.0, "awr": 2.0}, WIDE, num_problems=300, seed=3)
    inner = found["data_size"].isin(SIZES[1:-1])
    study = analyse(from_table(found[(found["algorithm"] == "sft") | inner]), "sft", {}, 400, 0)
    for one, other, truth in (("step_dpo", "rft", 2.0), ("rft", "step_dpo", 0.5), ("awr", "rft", 1.0)):
        points = study.ratios_at_sizes(one, other)
        assert [point.data_size for point in points] == list(SIZES[1:-1])  # equal curves are not cut at their ends
        assert all(0 < point.low <= truth <= point.high < 8 * truth for point in points)


def test_a_report_says_whether_compared_algorithms_are_equal(table, tmp_path):
    question = Question("sft", {}, 200, 0, compare=(("step_dpo", "rft"),), equal_within=1.25)
    panel = analysed(from_table(table), question)
    (section,) = (one for one in study_sections("", panel, tmp_path, SWEEP, Parts()) if "compared" in one.title)
    assert section.bullets[-1] == equivalence(panel, panel.comparisons[0], 1.25)


def test_text_is_escaped_for_latex():
    assert escaped("rft, K=4_5 & 95 % <=1") == r"rft, K=4\_5 \& 95 \% \textless{}=1"
