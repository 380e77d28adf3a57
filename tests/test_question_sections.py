"""robustness_sections and fits_file: every question's numbers reach the report and the file."""

import json

import pytest
from planted import planted

from analysis.page.rendering import to_html, to_markdown
from analysis.reporting.fits_file import dump, model_document, monotonicity_document
from analysis.reporting.robustness_sections import question_sections
from analysis.tables.outcomes import from_table
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import analyse


@pytest.fixture(scope="module")
def study():
    table = planted({"sft": 1.0, "rft": 2.0, "step_dpo": 4.0}, num_problems=200)
    return analyse(from_table(table), "sft", {}, num_draws=200)


def test_the_section_has_a_table_for_every_question(study):
    (section,) = question_sections("", Panel(study))
    text = to_markdown("name", [section])
    for wanted in ("quasi-F", "last1", "D left out", "Huber", "Per-step DPO over RFT", "m = 1: p"):
        assert wanted in text
    assert "nan" not in text
    assert "<table" in to_html("name", [section])


def test_rows_are_as_long_as_their_heads(study):
    (section,) = question_sections("s", Panel(study))
    for grid in section.tables:
        assert {len(row) for row in grid.rows} == {len(grid.columns)}


def test_the_document_is_json_with_every_question(study):
    panel = Panel(study)
    documents = {name: model_document(model, panel.questions[name]) for name, model in study.models.items()}
    found = json.loads(dump({"models": documents, **monotonicity_document(study)}))
    assert set(found["models"]) == {"rft", "step_dpo"}
    of_rft = found["models"]["rft"]
    assert of_rft["held_out"]["algorithm"] == "rft" and of_rft["selection"] == "QAICc"
    assert of_rft["comparisons"][0]["larger"] == "H1" and of_rft["slopes"][0]["form"] == of_rft["form"]
    assert found["reference_levels"] == "isotonic"


def test_without_a_joint_fit_there_is_no_section():
    refused = analyse(from_table(planted({"sft": 1.0, "rft": 2.0}, num_seeds=2, num_problems=20)), "sft", {})
    assert question_sections("", Panel(refused)) == []
