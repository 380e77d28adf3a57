"""docs/performance.md and its figure, from the benchmarks' JSON: `python -m benchmarks.page`.

In: benchmarks/results/*.json. Out: the page; every number on it is read from there. tests/test_performance.py holds the
page to them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from analysis.figure_style import colour, marker, styled
from analysis.plots import save

ROOT = Path(__file__).resolve().parents[1]
PAGE, FIGURE = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.png"
TEMPLATE = Path(__file__).parent / "performance.md.j2"
NAMES = ("generation", "training", "adaptive", "peak", "engine", "growth", "analysis")
SIZES = {"xs": "150k", "s": "800k", "m": "4.7M"}
DIALS = ("rows", "completions a prompt", "new tokens", "tokens of a sequence", "parameters")


def main() -> None:
    results = read()
    PAGE.write_text(text(results), encoding="utf-8")
    with styled():
        save(growth_figure(results["growth"]["found"]), FIGURE)


def read() -> dict[str, dict]:
    """The results by name."""
    return {name: json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text()) for name in NAMES}


def text(results: Mapping[str, dict]) -> str:
    """The whole page."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        machine=results["training"]["machine"],
        comparison=_comparison([*results["generation"]["rows"], *results["training"]["rows"]]),
        modes=", ".join(sorted({row["mode"] for row in results["training"]["rows"]})),
        adaptive=_adaptive(results["adaptive"]["rows"]),
        peak=_peak(results["peak"]["found"]),
        engine=_engine(results["engine"], results["analysis"]),
    )


def _comparison(rows: Sequence[Mapping]) -> str:
    lines = [_line(("work", "policy", "ours", "peer", "ratio", "aim", "peer, two threads", "peer, two processes"))]
    lines.append(_line(["---"] * 2 + ["---:"] * 6))
    for row in rows:
        best = max(row["peer_two_threads"] or 0.0, row["peer_two_processes"] or 0.0)
        peers = [f"{row[name]:,.0f}" if row[name] else "-" for name in ("peer_two_threads", "peer_two_processes")]
        shown = (f"{row['ours']:,.0f}", f"{best:,.0f}", f"**{row['ratio']:.1f}x**", f"{row['target']:g}x", *peers)
        lines.append(_line((row["what"], SIZES[row["size"]], *shown)))
    return "\n".join(lines)


def _adaptive(rows: Sequence[Mapping]) -> str:
    lines = [_line(("policy", "M", "negatives", "fewer tokens", "fewer FLOPs", "same pits", "faster"))]
    lines.append(_line(["---"] + ["---:"] * 6))
    for row in rows:
        counts = (str(row["rollouts_per_prefix"]), f"{row['num_negatives']:,}")
        ratios = (f"{row['token_ratio']:.1f}x", f"{row['flops_ratio']:.1f}x")
        same = f"{100 * row['same_pits_fraction']:.1f} %"
        lines.append(_line((row["policy"], *counts, *ratios, same, f"{row['seconds_ratio']:.1f}x")))
    return "\n".join(lines)


def _peak(found: Mapping[str, float]) -> str:
    best = found["matmul"]
    shares = {name: f"{found[name]:.0f} GFLOP/s, {100 * found[name] / best:.0f} %" for name in ("training", "decoding")}
    return (
        f"One core, one thread, size m: a large float32 matrix product reaches {best:.0f} GFLOP/s; training"
        f" {shares['training']} of it (aim 50 %), decoding at batch 256 {shares['decoding']} (aim 15 %)."
    )


def _engine(engine: Mapping[str, float], analysis: Mapping[str, dict]) -> str:
    study, table = analysis["study"], analysis["tabulate"]
    rows = (
        (
            "a trivial stage on Ray, planned, scheduled and stored",
            f"{engine['milliseconds_per_stage']:.1f} ms",
            "10 ms",
        ),
        ("planning a sweep of 10,000 runs", f"{engine['planning_seconds']:.1f} s", "5 s"),
        ("its memory", f"{engine['peak_memory_gigabytes']:.2f} GB", "1 GB"),
        (f"analysis of {study['runs']} runs, {study['draws']:,} draws, figures", f"{study['seconds']:.1f} s", "60 s"),
        (f"tabulating {table['runs']:,} runs", f"{table['seconds']:.1f} s", "30 s"),
    )
    return "\n".join([_line(("work", "measured", "aim")), _line(["---", "---:", "---:"]), *map(_line, rows)])


def growth_figure(found: Sequence[Mapping]) -> Figure:
    """A panel for each dial: tokens a second against it, log-log."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    panels = figure.subplots(2, 3).flat
    for axes, dial in zip(panels, DIALS, strict=False):
        for index, work in enumerate(("sampling", "training")):
            part = [item for item in found if (item["dial"], item["work"]) == (dial, work)]
            if part:
                values = [item["value"] for item in part], [item["tokens_a_second"] for item in part]
                axes.plot(*values, f"{marker(index)}-", color=colour(index), markersize=4, linewidth=0.9, label=work)
        axes.set(xscale="log", yscale="log", xlabel=dial, ylabel="tokens a second")
        axes.legend(loc="best")
    for axes in list(panels):
        axes.set_axis_off()
    return figure


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
