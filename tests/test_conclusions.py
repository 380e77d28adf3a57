"""analysis.reporting.conclusions: a report opens with one paragraph of few findings and with a list of many."""

import dataclasses

import pytest
from planted import planted

from analysis.page.rendering import to_html, to_markdown
from analysis.reporting.conclusions import conclusions, opening
from analysis.tables.outcomes import from_table
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import analyse

AFTER = ("Is it so?", "All runs are in.")


@pytest.fixture(scope="module")
def panel():
    """A planted study of two algorithms beside the reference."""
    table = planted({"sft": 1.0, "rft": 2.0, "dpo": 1.0}, num_problems=40)
    return Panel(analyse(from_table(table), "sft", {"rft": 2}, num_draws=100))


def arms(panel: Panel, number: int) -> Panel:
    """The panel with its first verdict as that of several algorithms."""
    first = panel.study.verdicts[0]
    alike = tuple(dataclasses.replace(first, sentence=f"Arm {index} is better.") for index in range(number))
    return dataclasses.replace(panel, study=dataclasses.replace(panel.study, verdicts=alike))


@pytest.mark.parametrize("number", [1, 4])
def test_each_finding_is_a_bullet_above_the_paragraphs(panel, number):
    listed, below = opening({"": arms(panel, number)}, AFTER)
    assert listed.bullets == conclusions(arms(panel, number)) and len(listed.bullets) == number
    assert all(f"Arm {index} is better." in item for index, item in enumerate(listed.bullets))
    assert listed.paragraphs == () and below.paragraphs == AFTER


def test_findings_of_all_panels_are_listed_and_each_says_its_panel(panel):
    listed, _ = opening({"one": arms(panel, 1), "two": arms(panel, 2)}, ())
    assert [item[:5] for item in listed.bullets] == ["[one]", "[two]", "[two]"]


def test_algorithms_without_a_multiplier_for_one_reason_share_an_item():
    few = planted({"sft": 1.0, "rft": 2.0, "dpo": 1.0}, num_seeds=2, num_problems=20)
    (item,) = conclusions(Panel(analyse(from_table(few), "sft", {})))
    assert item.startswith("DPO and RFT: no multiplier") or item.startswith("RFT and DPO: no multiplier")
    assert "claim" not in item
    (item,) = conclusions(Panel(analyse(from_table(few), "sft", {"rft": 2, "dpo": "<=1"})))
    assert "Not tested: the claims of " in item and "2x for RFT" in item and "at most 1x for DPO" in item
    (item,) = conclusions(Panel(analyse(from_table(few), "sft", {"rft": 2})))
    assert item.endswith("Not tested: the claim of 2x for RFT.")


def test_a_panel_of_the_reference_alone_has_nothing_to_open_with(panel):
    alone = arms(panel, 0)
    (section,) = opening({"one": alone, "two": alone}, AFTER)
    assert section.paragraphs == AFTER
    listed, below = opening({"one": alone, "two": arms(panel, 1)}, AFTER)
    assert listed.bullets[0].startswith("[two] ") and len(listed.bullets) == 1 and below.paragraphs == AFTER


def test_both_forms_of_a_report_show_the_list(panel):
    parts = opening({"": arms(panel, 4)}, AFTER)
    claim = panel.study.verdicts[0].claim_sentence or ""
    lines = to_markdown("sweep", parts).splitlines()
    assert [line for line in lines if line.startswith("- ")] == [
        f"- Arm {i} is better. {claim}".strip() for i in range(4)
    ]
    assert lines.index("Is it so?") > max(index for index, line in enumerate(lines) if line.startswith("- "))
    page = to_html("sweep", parts)
    assert page.count("<li>Arm") == 4 and page.index("</ul>") < page.index("<p>Is it so?</p>")
