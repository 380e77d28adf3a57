"""analysis.figures.select: the heat map shows every candidate with its noise, and frames what was chosen."""

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from analysis.figures.select import select_figure
from analysis.tables.printing import Printing, printing
from analysis.tables.runs import CHOICES


def table(**changes) -> pd.DataFrame:
    rows = [
        ("rft", size, at, f"epochs={epochs}, max_positives=4", 2, 0.5 - 0.01 * epochs, 0.004, epochs == 5, False)
        for size in (64, 128)
        for at in ("",)
        for epochs in (2, 5)
    ]
    return pd.DataFrame(rows, columns=list(CHOICES)).assign(**changes)


def test_every_cell_has_its_error_and_noise_and_the_chosen_ones_a_frame():
    with printing(Printing({"rft": "Rejection"})):
        (axes,) = select_figure(table()).axes
    assert [text.get_text() for text in axes.texts] == ["48.0\n$\\pm$0.4"] * 2 + ["45.0\n$\\pm$0.4"] * 2
    frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert [round(frame.get_y()) for frame in frames] == [1, 1]
    np.testing.assert_allclose(axes.images[0].get_array(), [[3, 3], [0, 0]])
    assert axes.get_title() == "Rejection"
    assert [one.get_text().replace("\n", " ") for one in axes.get_yticklabels()] == [
        "epochs 2, max positives 4", "epochs 5, max positives 4",
    ]  # fmt: skip
    assert [one.get_text() for one in axes.get_xticklabels()] == ["64", "128"]


def test_without_noise_the_error_stands_alone_and_without_a_choice_there_is_no_figure():
    (axes,) = select_figure(table(standard_error=np.nan)).axes
    assert axes.texts[0].get_text() == "48.0"
    assert select_figure(table(validation_error=np.nan)) is None
    assert select_figure(table(settings="epochs=2").iloc[:1]) is None
    # An older table does not say which of several policies a choice is for.
    assert select_figure(pd.concat([table(), table()])) is None
