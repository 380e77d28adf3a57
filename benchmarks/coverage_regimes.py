"""Regimes of simulated studies with a known truth, in which `benchmarks.coverage` counts how often limits hold it.

In: a regime and a generator of random numbers. Out: `Outcomes`, and the true multiplier of every cell. On the logit
scale an outcome is eta of the cell + difficulty of the problem + effect of the run; eta is such that the error of a
cell is, over problems and runs, that of the reference's curve at m D. The generator is not the planner's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm, t

from analysis.planner.simulation import noise_of
from analysis.tables.outcomes import Outcomes, from_table

REFERENCE = "sft"
NARROW, WIDE = (64, 128, 256, 512, 1024, 2048), (64, 128, 256, 512, 1024, 2048, 4096, 8192)
_OF_PROBLEMS, _OF_RUNS = ((np.arange(n) + 0.5) / n for n in (101, 21))  # quantiles by which expectations are taken
_RESULTS = Path(__file__).parents[1] / "results" / "shipped"
SHIPPED = (
    "quickstart",
    "model_scaling",
    "paper_scaling",
    "paper_confirmation",
    "paper_controls",
    "paper_limits",
    "paper_traces",
    "paper_collapse",
    "paper_critical_steps",
)


def floored(size: np.ndarray, floor: float = 0.15, a: float = 0.5, b: float = 0.25) -> np.ndarray:
    """c + a (D / 256)^-b."""
    return floor + a * (size / 256) ** -b


@dataclass(frozen=True)
class Arm:
    """One algorithm of a regime: m(D) = m (D / 64)^slope."""

    m: float
    slope: float = 0.0
    sizes: tuple[int, ...] = NARROW[:4]
    num_seeds: int | None = None  # None: as many as the regime has


@dataclass(frozen=True)
class Regime:
    """What is simulated."""

    name: str
    what: str  # for readers
    arms: Mapping[str, Arm] = field(default_factory=lambda: {"m = 1": Arm(1.0), "m = 2": Arm(2.0)})
    reference_sizes: tuple[int, ...] = NARROW
    curve: Callable[[np.ndarray], np.ndarray] = floored
    num_seeds: int = 3
    num_problems: int = 500
    difficulty: Callable[[np.ndarray], np.ndarray] = field(default=lambda u: 2.0 * norm.ppf(u))  # of quantiles
    effect: Callable[[np.ndarray], np.ndarray] = norm.ppf  # run effects over their sd, of quantiles
    run_sd: Callable[[str, int], float] = field(default=lambda name, size: 0.12)  # in logits
    seed_share: float = 0.0  # of the run effects' variance, common to the runs of a seed
    diverged: float = 0.0  # chance that a run's effect is 3 logits more

    @property
    def all_arms(self) -> dict[str, Arm]:
        return {REFERENCE: Arm(1.0, sizes=self.reference_sizes), **self.arms}

    @cached_property
    def eta(self) -> dict[tuple[str, int], float]:
        """Of every cell, so that its expected error is the curve's."""
        return {(name, size): self._eta(name, size) for name, arm in self.all_arms.items() for size in arm.sizes}

    def truth(self, name: str, size: int) -> float:
        arm = self.all_arms[name]
        return arm.m * (size / 64) ** arm.slope

    def simulate(self, generator: np.random.Generator) -> Outcomes:
        """One study."""
        cells = list(self.eta)
        most = max(arm.num_seeds or self.num_seeds for arm in self.all_arms.values())
        hard = self.difficulty(generator.random(self.num_problems))
        own, common = self.effect(generator.random((len(cells), most))), self.effect(generator.random(most))
        scaled = np.sqrt(1 - self.seed_share) * own + np.sqrt(self.seed_share) * common
        sd = np.array([self.run_sd(*cell) for cell in cells])
        run = sd[:, None] * scaled + 3.0 * (generator.random(own.shape) < self.diverged)
        logit = (np.array(list(self.eta.values()))[:, None] + run)[..., None] + hard
        count = np.array([self.all_arms[name].num_seeds or self.num_seeds for name, _ in cells])
        return Outcomes(
            algorithm=np.array([name for name, _ in cells], dtype=object),
            data_size=np.array([size for _, size in cells], dtype=np.int64),
            seeds=tuple(range(most)),
            problems=tuple(f"p{index:05d}" for index in range(self.num_problems)),
            wrong=(generator.random(logit.shape) < expit(logit)).astype(np.uint8),
            present=np.arange(most) < count[:, None],
        )

    def _eta(self, name: str, size: int) -> float:
        wanted = float(self.curve(np.array(self.truth(name, size) * size)))
        hard = self.difficulty(_OF_PROBLEMS)[:, None]
        own, common = self.effect(_OF_RUNS)[:, None], self.effect(_OF_RUNS)[None, :]
        mixed = np.sqrt(1 - self.seed_share) * own + np.sqrt(self.seed_share) * common if self.seed_share else own
        run = self.run_sd(name, size) * mixed
        low, high = -30.0, 30.0
        for _ in range(40):
            middle = 0.5 * (low + high)
            usual, far = (expit(middle + more + hard + run.ravel()).mean() for more in (0.0, 3.0))
            above = (1 - self.diverged) * usual + self.diverged * far > wanted
            low, high = (low, middle) if above else (middle, high)
        return 0.5 * (low + high)


def _sd(value: float) -> Callable[[str, int], float]:
    return lambda name, size: value


def _two_humps(u: np.ndarray) -> np.ndarray:
    """Half of the problems easy, half hard, each with a spread of half a logit."""
    return np.where(u < 0.5, -2.5, 2.5) + 0.5 * norm.ppf(np.clip(2 * u % 1, 1e-3, 1 - 1e-3))


def _t3(u: np.ndarray) -> np.ndarray:
    return t.ppf(u, 3) / np.sqrt(3)


def _threefold(name: str, size: int) -> float:
    """From .08 to .24 with the size, upward for the reference and downward for the others, which start at .24."""
    share = np.log2(size / 64) / 5
    return 0.08 * 3 ** float(share if name == REFERENCE else 1 - share)


_EIGHT = {"m = 1": Arm(1.0, sizes=WIDE[:5]), "m = 2": Arm(2.0, sizes=WIDE[:5]), "m = 8": Arm(8.0, sizes=WIDE[:5])}
_MOVING = {
    "m = 2": Arm(2.0, sizes=WIDE[:5]),
    "m grows": Arm(1.5, 0.5, sizes=WIDE[:5]),
    "m falls": Arm(4.0, -0.4, sizes=WIDE[:5]),
}


@cache
def planted() -> tuple[Regime, ...]:
    """The regimes with noise of their own."""
    noisy = {"run_sd": _sd(0.24)}
    return (
        Regime("base", "four seeds, reference to 8x", _EIGHT, WIDE, num_seeds=4),
        Regime("noise .5", "run noise over luck .5", run_sd=_sd(0.06)),
        Regime("noise 1", "run noise over luck 1"),
        Regime("noise 2", "run noise over luck 2", **noisy),
        Regime("noise 4", "run noise over luck 4", run_sd=_sd(0.48)),
        Regime("four seeds", "noise 2, four seeds", num_seeds=4, **noisy),
        Regime("eight seeds", "noise 2, eight seeds", num_seeds=8, **noisy),
        Regime(
            "unequal seeds",
            "noise 2; reference 3, m = 1 4, m = 2 6",
            {"m = 1": Arm(1.0, num_seeds=4), "m = 2": Arm(2.0, num_seeds=6)},
            **noisy,
        ),
        Regime(
            "bend", "a curve flat at first, .1 + .6 ((D + 300) / 556)^-1.2", _EIGHT, WIDE, lambda d: floored_late(d)
        ),
        Regime("moving arms", "m = 1.5 (D / 64)^.5 and 4 (D / 64)^-.4 beside 2", _MOVING, WIDE),
        Regime("two humps", "problems easy or hard", difficulty=_two_humps),
        Regime(
            "near 0",
            "errors of .5 to 4 %, 2,000 problems",
            curve=lambda d: floored(d, 0.003, 0.016, 0.5),
            num_problems=2000,
        ),
        Regime("near 1", "errors of 90 to 98 %", curve=lambda d: 0.98 - 0.02 * (d / 64) ** 0.4),
        Regime(
            "plateau",
            "a curve that ends, .3 + .3 D / 64^-1",
            {"m = 1": Arm(1.0), "m = 8": Arm(8.0)},
            curve=lambda d: 0.3 + 0.3 * (d / 64) ** -1.0,
        ),
        Regime("threefold", "run sd from .08 to .24, with D and against it", run_sd=_threefold),
        Regime("heavy tails", "noise 2, t with 3 degrees of freedom", effect=_t3, **noisy),
        Regime("diverged", "one run in 20 has 3 logits more", diverged=0.05),
        Regime("seed .5", "noise 2, half of it the seed's", seed_share=0.5, **noisy),
        Regime("seed .9", "noise 2, nine tenths the seed's", seed_share=0.9, **noisy),
    )


def names() -> tuple[str, ...]:
    """Of all regimes, shipped sweeps last."""
    return (*(regime.name for regime in planted()), *SHIPPED)


def floored_late(size: np.ndarray) -> np.ndarray:
    """A curve that starts flat."""
    return 0.1 + 0.6 * ((size + 300) / 556) ** -1.2


@cache
def regime_of(name: str) -> Regime:
    """A regime by its name; that of a shipped sweep has the noise of its first panel."""
    for regime in planted():
        if regime.name == name:
            return regime
    table = pd.read_parquet(_RESULTS / name / "outcomes.parquet")
    table = table[table["panel"] == table["panel"].iloc[0]].astype({"algorithm": str, "problem": str})
    noise = noise_of(from_table(table))
    return Regime(
        name,
        f"its noise: {noise.num_seeds} seeds, {noise.num_problems:,} problems of sd {noise.item_sd:.2f}, runs of"
        f" {noise.run_sd:.3f}, {100 * noise.seed_share:.0f} % the seed's",
        num_seeds=noise.num_seeds,
        num_problems=noise.num_problems,
        difficulty=lambda u: noise.item_sd * norm.ppf(u),
        run_sd=_sd(noise.run_sd),
        seed_share=noise.seed_share,
    )
