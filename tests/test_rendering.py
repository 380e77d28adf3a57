"""Reports whose problems and samples hold what Markdown and LaTeX read as their own."""

from analysis.page.rendering import Group, Line, Sample, Section, TextTable, to_latex, to_markdown

PROBLEM = "What is |x|?\n\nEnd with a line of #### and the answer."


def test_a_problem_of_several_lines_stays_in_its_row():
    section = Section("What was run", tables=(TextTable(("", "a | b"), (("a problem", PROBLEM), ("answer", "3"))),))
    rows = [line for line in to_markdown("sweep", [section]).splitlines() if line.startswith("|")]
    assert rows == [
        r"|  | a \| b |",
        "|---|---:|",
        r"| a problem | What is \|x\|?<br><br>End with a line of #### and the answer. |",
        "| answer | 3 |",
    ]
    assert r"a problem & What is |x|? End with a line of \#\#\#\# and the answer. \\" in to_latex(
        [("facts", section.tables[0])]
    )


def test_a_samples_own_fence_does_not_end_it():
    lines = (Line("```python"), Line("print(3)"), Line("```"))
    group = Group(PROBLEM, (Sample("SFT, right", lines),))
    text = to_markdown("sweep", [Section("Samples", groups=(group,))])
    assert "**What is |x|? End with a line of #### and the answer.**" in text
    assert text.splitlines().count("````") == 2 and "    ```python" in text
