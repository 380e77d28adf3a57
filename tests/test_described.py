"""Where one multiplier does not describe the curves, figures and captions show none."""

import pandas as pd
import pytest
from planted import planted, power_law

from analysis.figures import overview
from analysis.page.parts import Parts
from analysis.page.wording import SWEEP
from analysis.reporting.study_sections import main_sections
from analysis.tables.outcomes import from_table
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import analyse


@pytest.fixture(scope="module")
def studies():
    """A study in which one number describes each algorithm, and one in which m of RFT moves with D."""
    table = planted({"sft": 1.0, "rft": 2.0}, num_problems=200)
    moving = planted({"rft": 1.0}, num_problems=200, curve=lambda size: power_law(size * (size / 64) ** 0.8), seed=1)
    moved = pd.concat([table[table["algorithm"] == "sft"], moving])
    return analyse(from_table(table), "sft", {}, num_draws=200), analyse(from_table(moved), "sft", {}, num_draws=200)


def texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_one_number_is_given_only_where_it_describes_the_curves(studies):
    one, moving = studies
    assert one.verdict("rft").headline.kind == "one number" and one.described("rft") is one.models["rft"]
    assert moving.verdict("rft").headline.kind == "sizes" and moving.overall("rft") is None
    assert [point.data_size for point in moving.verdict("rft").headline.points] == [64, 1024]


def test_the_multiplier_figure_has_a_band_only_for_one_number(studies):
    for study, lines in zip(studies, (True, False), strict=True):
        assert bool(overview.multiplier_figure(study, SWEEP).axes[0].patches) == lines


def test_the_error_figure_joins_the_means_where_no_fit_describes_them(studies):
    styles = [
        {
            container.lines[0].get_linestyle()
            for container in overview.error_figure(study, SWEEP, None).axes[0].containers
        }
        for study in studies
    ]
    assert styles == [{"None"}, {"-"}]


def test_the_captions_say_what_is_drawn(studies, tmp_path):
    (tmp_path / "figures").mkdir()
    overview.save(overview.error_figure(studies[0], SWEEP, None), tmp_path / "figures" / "error.png")
    overview.save(overview.multiplier_figure(studies[0], SWEEP), tmp_path / "figures" / "multiplier.png")
    sections = [main_sections("", Panel(study), tmp_path, SWEEP, Parts()) for study in studies]
    captions = [" ".join(figure.caption for figure in figures.figures) for figures, *_ in sections]
    assert "lines: joint fits" in captions[0] and "Lines and bands: one number" in captions[0]
    assert "lines join the means" in captions[1] and "m at the smallest and the largest size" in captions[1]


def test_a_study_of_the_reference_alone_compares_nothing(studies, tmp_path):
    table = planted({"sft": 1.0}, num_problems=100)
    alone = analyse(from_table(table), "sft", {}, num_draws=50)
    assert alone.curve is not None and overview.collapsed_figure(alone, SWEEP) is None
    assert overview.collapsed_figure(studies[0], SWEEP) is not None
    (tmp_path / "figures").mkdir()
    for name, study in (("error", alone), ("error-both", studies[0])):
        overview.save(overview.error_figure(study, SWEEP, None), tmp_path / "figures" / f"{name}.png")
    captions = [
        main_sections(panel, Panel(study), tmp_path, SWEEP, Parts())[0].figures[0].caption
        for panel, study in (("", alone), ("both", studies[0]))
    ]
    assert SWEEP.caution not in captions[0] and SWEEP.caution in captions[1]
