"""What a report calls its errors and data sizes, and how it says where its intervals come from.

In: outcomes. Out: phrases that captions, tables and fits.json share, so that they cannot contradict each other.
"""

from dataclasses import dataclass

from analysis.tables.cells import Cells
from analysis.tables.outcomes import Outcomes


@dataclass(frozen=True)
class Wording:
    """Words for one kind of data."""

    error: str  # on an axis
    error_title: str  # in a caption or a note
    size: str  # on an axis, before D
    size_definition: str
    caution: str = ""  # what a caption adds

    @property
    def size_axis(self) -> str:
        return f"{self.size} D"

    @property
    def error_axis(self) -> str:
        return f"{self.error} (%)"


SWEEP = Wording(
    "test error, greedy",
    "Test error (greedy)",
    "synthetic problems",
    "unique synthetic problems given to the algorithm",
    " RFT, DPO and per-step DPO use extra samples of the SFT policy for each problem.",
)
TABLE = Wording("test error", "Test error", "data size", "data_size, as the table gives it")


def is_paired(outcomes: Cells) -> bool:
    """Whether the table says which problems each run got wrong."""
    return isinstance(outcomes, Outcomes)


def interval_kind(outcomes: Cells) -> str:
    """How the bootstrap draws."""
    runs = "run effects of each algorithm's pooled variance, with effects that a seed's runs share"
    if is_paired(outcomes):
        return f"bootstrap over shared test problems, crossed with {runs}"
    return f"bootstrap over the test problems of each cell on its own (counts: unpaired, wider), crossed with {runs}"


def pairing(outcomes: Cells) -> dict[str, str]:
    """For fits.json: the problems and seeds that runs share."""
    num_groups = len(set(outcomes.groups.tolist()))
    items = "shared by all runs" if is_paired(outcomes) else "unavailable: counts only, intervals are wider"
    runs = "seeds shared by all cells" if num_groups == 1 else f"{num_groups} groups of cells without common seeds"
    return {"items": items, "runs": runs}


def sample_size(outcomes: Cells) -> str:
    """n, seeds and missing runs."""
    missing = f", {outcomes.num_missing} runs missing" if outcomes.num_missing else ""
    count = len(outcomes.seeds)
    return f"n = {outcomes.num_problems:,} test problems, {count} {'seed' if count == 1 else 'seeds'}{missing}"
