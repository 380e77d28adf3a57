"""Published curves, read again with intervals: `python -m benchmarks.published [DATA]` writes results/published.md.

In: DATA, the folder of public points (default ../shared/known_answers): finetuning_scaling (Lin et al. 2024, arXiv
2402.02314), alabdulmohsin_benchmark (Alabdulmohsin et al. 2022, arXiv 2209.06640) and epoch_chinchilla (Besiroglu et
al. 2024, arXiv 2404.10102). Out: results/published.csv, a row for each number, and results/published.md, which is
written from that file alone (`benchmarks.published_page`). The fits are those of `analysis.fit`.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves.surface import Surface, bootstrap_surface, fit_surface
from benchmarks.published_page import COLUMNS, document
from benchmarks.two_curves import Points, drawn, multiplier, reaching

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "known_answers"
OUT = ROOT / "results"
SETS = ("finetuning_scaling", "alabdulmohsin_benchmark", "epoch_chinchilla")
NUM_DRAWS = 500
# Learner against reference. Losses a token compare within one tokenizer only, so each pair shares one.
LARGER = (
    ("gpt2-medium", "gpt2"),
    ("gpt2-large", "gpt2-medium"),
    ("gpt2-xl", "gpt2-large"),
    ("facebook/opt-1.3b", "facebook/opt-350m"),
    ("facebook/opt-2.7b", "facebook/opt-1.3b"),
    ("facebook/opt-6.7b", "facebook/opt-2.7b"),
    ("cerebras/Cerebras-GPT-256M", "cerebras/Cerebras-GPT-111M"),
    ("cerebras/Cerebras-GPT-1.3B", "cerebras/Cerebras-GPT-256M"),
    ("cerebras/Cerebras-GPT-2.7B", "cerebras/Cerebras-GPT-1.3B"),
    ("facebook/bart-large", "facebook/bart-base"),
    ("t5-base", "t5-small"),
    ("google/mt5-large", "google/mt5-base"),
)
OTHER_START = (
    ("MBZUAI/LaMini-GPT-124M", "gpt2"),
    ("MBZUAI/LaMini-GPT-774M", "gpt2-large"),
    ("MBZUAI/LaMini-GPT-1.5B", "gpt2-xl"),
    ("facebook/bart-large-cnn", "facebook/bart-large"),
    ("facebook/bart-large-xsum", "facebook/bart-large"),
    ("t5-base", "google/t5-v1_1-base"),
)
TRANSLATION = (
    ("28 Enc, 6 Dec", "6 Enc, 6 Dec"),
    ("6 Enc, 28 Dec", "6 Enc, 6 Dec"),
    ("Dec-only", "6 Enc, 6 Dec"),
    ("TEnc-LSTM", "6 Enc, 6 Dec"),
)
VISION = (("ViT/B/16", "ViT/S/16"), ("MiX/L/16", "MiX/B/16"), ("BiT/101/3", "BiT/50/1"))
DOUBLED = ((5e8, 1e10), (1e9, 2e10), (4e9, 8e10))  # parameters that are doubled, and tokens
BUDGET = 1e21  # FLOPs, within the points


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 written, 2 the data are not there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published", description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=DATA, metavar="DATA", help=f"default: {DATA}")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="where both files go (default: results/)")
    arguments = parser.parse_args(argv)
    absent = [name for name in SETS if not (arguments.data / name).is_dir()]
    if absent:
        print(
            f"error: {arguments.data} lacks {', '.join(absent)}. Name the folder that holds {', '.join(SETS)};"
            " results/published.md says where their files are from.",
            file=sys.stderr,
        )
        return 2
    rows = [*finetuning(arguments.data), *translation(arguments.data), *vision(arguments.data), *tokens(arguments.data)]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(arguments.out / "published.csv", index=False, float_format="%.6g")
    (arguments.out / "published.md").write_text(document(arguments.out / "published.csv"), encoding="utf-8")
    return 0


def finetuning(
    data: Path, sets: Sequence[str] = ("flan", "gigaword"), pairs: Sequence[tuple[str, str]] = (*LARGER, *OTHER_START)
) -> Iterator[dict[str, Any]]:
    """Fine-tuning losses of two pretrained models, each at 14 numbers of examples."""
    for name in sets:
        table = pd.read_csv(data / "finetuning_scaling" / f"{name}.csv").set_index("config name")
        sizes = [column for column in table.columns if column.isdigit() and column != "0"]
        models = dict.fromkeys(model for pair in pairs for model in pair)
        curves = [Points(model, np.array(sizes, float), table.loc[model, sizes].to_numpy(float)) for model in models]
        params = table["size"]
        for row in _compared(name, curves, pairs, "hill"):
            yield row | {"params_ratio": params[row["learner"]] / params[row["reference"]]}


def translation(data: Path) -> Iterator[dict[str, Any]]:
    """Log-perplexity of five architectures, each at 10 or 11 numbers of sentence pairs (Bansal et al. 2022)."""
    table = _benchmark(data, "lang")
    curves = [_points(table, "NMT", "log_perplexity", name) for name in dict.fromkeys(sum(TRANSLATION, ()))]
    yield from _compared("translation", curves, TRANSLATION, "hill")


def vision(data: Path) -> Iterator[dict[str, Any]]:
    """Few-shot error of two models along one run each, by straight lines between the points."""
    table = _benchmark(data, "vision")
    for (learner, reference), task in ((pair, task) for pair in VISION for task in sorted(set(table["Task"]))):
        one, base = (_points(table, "IC", task, name) for name in (learner, reference))
        best = np.minimum.accumulate(one.loss)
        (inside,) = np.nonzero((best <= base.loss.max()) & (best >= base.loss.min()))
        for what, at in (("m_first", inside[0]), ("m_last", inside[-1])):
            m = reaching(base, best[at]) / one.size[at]
            row = {"set": f"vision {task}", "learner": learner, "reference": reference, "what": what}
            yield row | {"data_size": one.size[at], "by_points": m}


def tokens(data: Path) -> Iterator[dict[str, Any]]:
    """The surface L(N, D) of Hoffmann's points, prepared as Besiroglu et al. do, and the tokens that size saves."""
    table = pd.read_csv(data / "epoch_chinchilla" / "svg_extracted_data.csv")
    table = table[table["loss"] < np.sort(table["loss"])[-5]]
    n, loss = table["Model Size"].to_numpy(), table["loss"].to_numpy()
    d = table["Training FLOP"].to_numpy() / (6 * n)
    fit = fit_surface(n, d, loss)
    draws = np.concatenate(list(bootstrap_surface(n, d, loss, fit, NUM_DRAWS, 0)))
    surfaces = [fit.surface, *(Surface(*row) for row in draws.tolist())]
    for name in ("alpha", "beta", "compute_exponent"):
        yield _of_surfaces(name, [getattr(surface, name) for surface in surfaces])
    yield _of_surfaces("tokens_a_parameter", [_tokens_a_parameter(surface, BUDGET) for surface in surfaces], BUDGET)
    for num_params, num_tokens in DOUBLED:
        found = [_worth_of_doubling(surface, num_params, num_tokens) for surface in surfaces]
        row = {"learner": f"{2 * num_params:.0e}", "reference": f"{num_params:.0e}", "params_ratio": 2.0}
        yield _of_surfaces("m", found, num_tokens) | row


def _compared(
    name: str, curves: Sequence[Points], pairs: Sequence[tuple[str, str]], form: str
) -> Iterator[dict[str, Any]]:
    """Three rows a pair: m at both ends of the sizes, and how it changes."""
    found = {points.name: drawn(points, form, NUM_DRAWS, seed=0) for points in curves}
    for learner, reference in pairs:
        m = multiplier(found[reference], found[learner])
        pair = {"set": name, "learner": learner, "reference": reference}
        if m is None:
            raise ValueError(f"{name}: {learner} and {reference} have no loss in common; leave the pair out.")
        misfit = max(found[reference].misfit, found[learner].misfit)
        for what, at in (("m_first", m.first), ("m_last", m.last)):
            numbers = {"estimate": at.m, "low": at.low, "high": at.high, "by_points": at.by_points, "misfit": misfit}
            reach = found[reference].points.size.max() / at.size
            yield pair | {"what": what, "data_size": at.size, "reach": reach, **numbers}
        yield pair | {"what": "change", **dict(zip(("estimate", "low", "high"), m.change, strict=True))}


def _of_surfaces(what: str, values: Sequence[float], data_size: float | None = None) -> dict[str, Any]:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    row = {"set": "tokens", "what": what, "estimate": values[0], "low": low, "high": high}
    return row if data_size is None else row | {"data_size": data_size}


def _worth_of_doubling(surface: Surface, num_params: float, num_tokens: float) -> float:
    """How many times more tokens the smaller model needs for the loss of one with twice its parameters."""
    loss = float(surface.predict(np.array(2 * num_params), np.array(num_tokens)))
    left = loss - surface.E - surface.A * num_params**-surface.alpha
    return float((surface.B / left) ** (1 / surface.beta) / num_tokens) if left > 0 else np.inf


def _tokens_a_parameter(surface: Surface, flops: float) -> float:
    """D over N where the loss is least for 6 N D FLOPs (Hoffmann et al. 2022, equation 4)."""
    a, g = surface.compute_exponent, surface.alpha * surface.A / (surface.beta * surface.B)
    n = g ** (1 / (surface.alpha + surface.beta)) * (flops / 6) ** a
    return flops / 6 / n**2


def _benchmark(data: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(data / "alabdulmohsin_benchmark" / f"benchmark.{name}.csv")


def _points(table: pd.DataFrame, domain: str, task: str, model: str) -> Points:
    part = table[(table["Domain"] == domain) & (table["Task"] == task) & (table["Model"] == model)]
    part = part.drop_duplicates("Seen Examples").sort_values("Seen Examples")
    return Points(model, part["Seen Examples"].to_numpy(float), part["Loss"].to_numpy(float))


if __name__ == "__main__":
    sys.exit(main())
