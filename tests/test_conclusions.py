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


def test_up_to_three_findings_are_one_paragraph_before_the_others(panel):
    (section,) = opening({"": arms(panel, 3)}, AFTER)
    assert section.bullets == () and section.paragraphs[1:] == AFTER
    assert section.paragraphs[0] == " ".join(conclusions(arms(panel, 3)))
    assert all(f"Arm {index} is better." in section.paragraphs[0] for index in range(3))


def test_more_are_a_list_of_one_item_each_above_the_paragraphs(panel):
    listed, below = opening({"": arms(panel, 4)}, AFTER)
    assert listed.bullets == conclusions(arms(panel, 4)) and len(listed.bullets) == 4
    assert listed.paragraphs == () and below.paragraphs == AFTER


def test_findings_of_all_panels_count_and_each_item_says_its_panel(panel):
    (section,) = opening({"one": arms(panel, 1), "two": arms(panel, 2)}, ())
    first, *_ = conclusions(arms(panel, 1))
    assert section.paragraphs[0].startswith(f"[one] {first} [two] ") and section.paragraphs[0].count("[") == 2
    listed, _ = opening({"one": arms(panel, 2), "two": arms(panel, 2)}, ())
    assert [item[:5] for item in listed.bullets] == ["[one]", "[one]", "[two]", "[two]"]


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
    (section,) = opening({"one": alone, "two": arms(panel, 1)}, AFTER)
    assert section.paragraphs[0].startswith("[two] ") and section.paragraphs[1:] == AFTER


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
