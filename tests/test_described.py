"""Where one multiplier does not describe the curves, figures and captions show none."""

import dataclasses

import pytest
from planted import planted

from analysis.figures import headline
from analysis.page.wording import SWEEP
from analysis.reporting.study_sections import study_sections
from analysis.tables.outcomes import from_table
from analysis.verdicts.judge import number
from analysis.verdicts.panel import Panel
from analysis.verdicts.study import analyse


@pytest.fixture(scope="module")
def studies():
    """A study that one multiplier describes, and the same with a fit that is rejected."""
    table = planted({"sft": 1.0, "rft": 2.0, "dpo": 1.0}, num_problems=200)
    described = analyse(from_table(table), "sft", {}, num_draws=200)
    model = dataclasses.replace(described.model, lack_of_fit=0.01, lack_of_fit_varying=0.01)
    return described, dataclasses.replace(described, model=model)


def texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_the_number_for_all_sizes_is_the_joint_fits_or_the_form_free_mean(studies):
    assert [study.one_number("rft").kind for study in studies] == ["overall", "mean"]
    assert studies[0].described is studies[0].model and studies[1].described is None


def test_the_multiplier_figure_has_a_band_only_for_what_describes_the_curves(studies):
    for study, lines in zip(studies, (True, False), strict=True):
        figure = headline.multiplier_figure(study, SWEEP)
        one = study.one_number("rft")
        stated = f"{number(one.estimate)} ({number(one.low)} to {number(one.high)})"
        assert any(stated in text for text in texts(figure))
        assert bool(figure.axes[0].patches) == lines
        assert any(line.get_linestyle() == "--" for line in figure.axes[0].lines) == lines


def test_the_error_figure_joins_the_means_where_the_fit_is_rejected(studies):
    styles = [
        {
            container.lines[0].get_linestyle()
            for container in headline.error_figure(study, SWEEP, None).axes[0].containers
        }
        for study in studies
    ]
    assert styles == [{"None"}, {"-"}]


def test_the_captions_say_what_is_drawn(studies, tmp_path):
    (tmp_path / "figures").mkdir()
    headline.save(headline.error_figure(studies[0], SWEEP, None), tmp_path / "figures" / "error.png")
    headline.save(headline.multiplier_figure(studies[0], SWEEP), tmp_path / "figures" / "multiplier.png")
    sections = [study_sections("", Panel(study), tmp_path, SWEEP) for study in studies]
    captions = [" ".join(figure.caption for figure in figures.figures) for figures, *_ in sections]
    assert "lines: joint fit" in captions[0] and "Lines and bands: one multiplier" in captions[0]
    assert "lines join the means" in captions[1] and "No one multiplier describes the curves" in captions[1]
    assert "Dashed" in captions[0] and "Dashed" not in captions[1]


def test_a_study_of_the_reference_alone_compares_nothing(studies, tmp_path):
    table = planted({"sft": 1.0}, num_problems=100)
    alone = analyse(from_table(table), "sft", {}, num_draws=50)
    assert alone.model is not None and headline.collapsed_figure(alone, SWEEP) is None
    assert headline.collapsed_figure(studies[0], SWEEP) is not None
    (tmp_path / "figures").mkdir()
    for name, study in (("error", alone), ("error-both", studies[0])):
        headline.save(headline.error_figure(study, SWEEP, None), tmp_path / "figures" / f"{name}.png")
    captions = [
        study_sections(panel, Panel(study), tmp_path, SWEEP)[0].figures[0].caption
        for panel, study in (("", alone), ("both", studies[0]))
    ]
    assert SWEEP.caution not in captions[0] and SWEEP.caution in captions[1]
