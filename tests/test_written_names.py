"""Names and numbers of anyone's table as they are written: integers, variants with settings, thousands, underscores."""

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from planted import planted

from analysis.figures.style import blank, legend, styled
from analysis.tables.cells import OutcomesError
from analysis.tables.outcomes import from_table
from analysis.tables.printing import short
from analysis.verdicts.claims import claim_of
from analysis.verdicts.outcome_file import parse_claims, read_outcomes

NAMES = ("sft", "rft, K=4", "rft, K=8, beta=0.1", "dpo")


def test_names_that_are_integers_are_text_in_parquet_as_in_csv(tmp_path):
    table = planted({"0": 1.0, "1": 2.0}, num_problems=20)
    table.astype({"algorithm": int}).to_parquet(tmp_path / "t.parquet")
    table.to_csv(tmp_path / "t.csv", index=False)
    found = [read_outcomes(tmp_path / name, "0") for name in ("t.parquet", "t.csv")]
    assert found[0].algorithms == found[1].algorithms == ("0", "1")
    assert (found[0].wrong == found[1].wrong).all()


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("dpo=<=1", {"dpo": "<=1"}),
        ("rft, K=4=2, rft, K=8, beta=0.1=4,dpo=1", {"rft, K=4": 2.0, "rft, K=8, beta=0.1": 4.0, "dpo": 1.0}),
        (" rft=2 , dpo = 3 ", {"rft": 2.0, "dpo": 3.0}),
        ("", {}),
    ],
)
def test_claims_name_variants(text, claims):
    assert parse_claims(text, NAMES, "sft") == claims


@pytest.mark.parametrize("text", ["rft, K=9=2", "dpo", "dpo=", "sft=2", "=2", "dpo=two"])
def test_claims_that_name_nothing_are_errors(text):
    with pytest.raises(OutcomesError, match="--claims has "):
        parse_claims(text, NAMES, "sft")


def test_a_variants_own_claim_comes_before_that_of_its_name():
    claims = {"rft": 2.0, "rft, K=4": 3.0}
    assert [claim_of(name, claims) for name in NAMES] == [None, 3.0, 2.0, None]


def test_thousands_may_have_commas_and_other_commas_are_errors():
    table = planted({"sft": 1.0, "rft": 2.0}, num_problems=20)
    written = table.assign(data_size=table["data_size"].map("{:,}".format))
    assert "1,024" in set(written["data_size"])
    assert from_table(written).data_size.tolist() == from_table(table).data_size.tolist()
    with pytest.raises(OutcomesError, match="data_size is '10,24'"):
        from_table(pd.DataFrame([("a", "10,24", 0, "p", 1)], columns=list(table.columns)))


@pytest.mark.parametrize("name", ["_base", r"$\frac$", "$", "a$b$c"])
def test_a_legend_shows_every_name_as_it_is_written(name):
    with styled():
        figure, axes = blank()
        axes.plot([1.0], [1.0], label=short(name))
        legend(axes)
        FigureCanvasAgg(figure).draw()
    (text,) = axes.get_legend().get_texts()
    assert text.get_text().strip().replace(r"\$", "$") == name
