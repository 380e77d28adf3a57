"""Writes docs/performance.md and its figure from benchmarks/results/*.json: `python -m benchmarks.page`.

Every number of the page comes from the JSON; what bounds a missed target is told here, in BOUNDS.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import plan_times, sides
from benchmarks.growth_figure import draw

PAGE = sides.HERE.parent / "docs" / "performance.md"
FIGURES = PAGE.parent / "figures"
# (work, size) -> what keeps it below its target, by profile.
_SMALL = (
    "by profile, of about 1.6 ms of a step over 256 rows 0.9 ms are matrix products with params, as fast as a large"
    " product; softmax, random bits, the cache and the start of some 130 small programs are the rest. So no code in"
    " float32 could be more than 1.8 times faster here."
)
_LARGE = (
    "by profile, most of a step is matrix products with params (over nine tenths at 4.7M), at 80 to 90 GFLOP/s a core;"
    " both sides do the same products, so what can be gained is what need not be done: filler, finished rows, repeated"
    " prompts."
)
_TRAINING_SMALL = (
    "by profile of SFT at xs, on one core, 59 % of an update are matrix products with params, as fast as the shape of a"
    " micro-batch allows, an eighth of that for filler behind ragged rows; attention, norms, softmax and loss are the"
    " rest, the optimiser 0.6 % and batching 0.4 %. So no code in float32 could be more than 1.7 times faster, and the"
    " peer is at two thirds of ours."
)
_TRAINING_LARGE = (
    "at 800 k parameters and more both sides are bound by the same matrix products: ours run at over half of the"
    " machine's matmul peak (below), the peer at a third and more of it, so that twice its rate would be near the"
    " peak or beyond it."
)
BOUNDS: Mapping[tuple[str, str], str] = {
    **{(work, "xs"): _SMALL for work in ("sampling_1", "sampling_16", "step_values", "greedy")},
    **{(work, "s"): _LARGE for work in ("sampling_1", "sampling_16", "step_values", "greedy")},
    **{(work, "m"): _LARGE for work in ("sampling_1", "sampling_16", "step_values", "greedy")},
    **{(work, "xs"): _TRAINING_SMALL for work in ("sft", "dpo")},
    **{(work, size): _TRAINING_LARGE for work in ("sft", "dpo") for size in ("s", "m")},
}
NOT_MEASURED = "Not measured yet: run `make bench`."
NOT_COMPILED = "Not compiled yet: run `make tpu-compile TPU='--json benchmarks/results/tpu.json'`."
NOT_COUNTED = "Not counted yet: run `python -m benchmarks.filler TRAIN.jsonl POLICY`, then `python -m benchmarks.page`."
HEAD = """# Performance

Written by `python -m benchmarks.page` from `benchmarks/results/*.json`; `make bench` measures all of it again, on an
otherwise idle machine. Both sides of a comparison do the same work in the same run and in turn: the same weights,
prompts or sequences, limits and batches, float32, on the same two cores. Ours is two workers of one thread, as a sweep
has them. The peer is run as one process of two threads and as two processes of one, and the faster of both counts.
Start-up, compilation and one warm run are outside of the clock; a rate is that of the median repeat.
"""


def main() -> None:
    PAGE.write_text(document(sides.RESULTS), encoding="utf-8")
    growth = _read(sides.RESULTS, "growth")
    if growth is not None:
        draw(growth["points"], FIGURES)


def document(results: Path) -> str:
    """The page."""
    parts = [HEAD]
    for name, title in (("generation", "Against transformers `generate`"), ("training", "Against TRL")):
        found = _read(results, name)
        parts += [f"## {title}", "", NOT_MEASURED if found is None else _comparison(found), ""]
    peak, engine, growth = (_read(results, name) for name in ("utilisation", "engine", "growth"))
    parts += ["## Share of the matmul peak", "", NOT_MEASURED if peak is None else _shares(peak), ""]
    filler = _read(results, "filler")
    parts += ["## Filler", "", NOT_COUNTED if filler is None else _filler(filler), ""]
    compiled = _read(results, "tpu")
    parts += ["## By the TPU compiler", "", NOT_COMPILED if compiled is None else _compiled(compiled), ""]
    packing = _read(results, "packing")
    parts += ["## Several seeds in one program", "", NOT_MEASURED if packing is None else _packing(packing), ""]
    adaptive, analysis = _read(results, "adaptive"), _read(results, "analysis")
    parts += ["## Step values, adaptive", "", NOT_MEASURED if adaptive is None else _adaptive(adaptive), ""]
    parts += ["## The analysis", "", NOT_MEASURED if analysis is None else _analysis(analysis), ""]
    parts += ["## The engine", "", NOT_MEASURED if engine is None else _engine(engine), ""]
    times = _read(results, "plan_times")
    parts += ["## Planned, announced and actual times", "", NOT_MEASURED if times is None else _times(times), ""]
    parts += ["## Growth", "", NOT_MEASURED if growth is None else _growth(growth), ""]
    return "\n".join(parts).rstrip() + "\n"


def _times(found: Mapping) -> str:
    return (
        "Planned by `--plan` before anything is stored, and taken by the stages of the shipped results, in seconds of"
        " one worker, without base policies. The rate of small policies is fitted to the first kind of sweeps. Half of"
        " all samples are assumed to be right; the star graph's policy stays at chance, and its stages find little to"
        " learn from.\n\nBelow: sweeps run from an empty store on one core, with tests running on the other, and from"
        " paper_collapse on with tests on both, so that times are up to twice those of an idle machine. At a share of"
        " the time gone by: the seconds to go as announced over those that they were, replayed from the times of the"
        " records. Short sweeps are mostly compilation, which no plan counts (`python -m benchmarks.plan_times`).\n\n"
        + plan_times.tables(found)
    )


def _comparison(found: Mapping) -> str:
    columns = ("work", "size", "ours", "peer, 2 threads", "peer, 2 processes", "ratio", "target", "")
    lines = [_row(columns), "|---" * len(columns) + "|"]
    for row in found["rows"]:
        mode = f" ({row['peer_mode']})" if "peer_mode" in row else ""
        cells = [row["what"], row["size"], f"{row['ours']:,.0f}", f"{row['peer_two_threads']:,.0f}{mode}"]
        cells += [f"{row['peer_two_processes']:,.0f}{mode}", f"**{row['ratio']:.1f}x**", f"{row['target']:.0f}x"]
        lines.append(_row([*cells, _verdict(row, row["ratio"])]))
    return "\n".join([f"Rates in {found['unit']}.", "", *lines, *_bounds(found, "ratio"), "", _source(found)])


def _shares(found: Mapping) -> str:
    peaks = ", ".join(f"{name} {value / 1e9:.0f}" for name, value in found["peak_flops_per_second"].items())
    columns = ("work", "GFLOP/s", "share of the peak", "target", "")
    lines = [_row(columns), "|---" * len(columns) + "|"]
    for row in found["rows"]:
        cells = [row["what"], f"{row['flops_per_second'] / 1e9:.1f}", f"**{100 * row['share']:.0f} %**"]
        lines.append(_row([*cells, f"{100 * row['target']:.0f} %", _verdict(row, row["share"])]))
    head = f"Peak of two processes at once, float32, in GFLOP/s: {peaks}; the largest counts. FLOPs of padding are not."
    return "\n".join([head, "", *lines, *_bounds(found, "share"), "", _source(found)])


def _filler(found: Mapping) -> str:
    columns = ("work", "rows a batch", "devices x tokens", "filler", "shapes", "padded: filler", "shapes")
    lines = [_row(columns), "|---" * len(columns) + "|"]
    for row in found["rows"]:
        cells = [row["work"], str(row["batch_size"]), f"{row['devices']} x {row['tokens']:,}"]
        for name, weight in (("packed", "**"), ("padded", "")):
            counts = row[name]
            cells += [f"{weight}{100 * counts['filler']:.1f} %{weight}", f"{weight}{counts['shapes']}{weight}"]
        lines.append(_row(cells))
    head = (
        f"Slots of training's micro-batches that hold no token, and how many shapes are compiled, on GSM8K's"
        f" {found['num_rows']:,} rows in the tokens of {found['policy']} (mean {found['mean_length']:.0f}, longest"
        f" {found['longest']}), three epochs (aims: 8 % and 6 shapes). With a checkpoint's policy several sequences"
        " share a row, and each sees only itself, at its own positions. A row is up to three of the longest sequences"
        " wide; sequences go into the rows of a call by best fit or evenly, whichever needs less, and the widths of all"
        " calls of a stage are rounded up to at most six by dynamic programming. A batch of a sequence a device cannot"
        " be filled. `memory.packing: false` gives each sequence a row. What is learned is the same: the rows of an"
        " update, their order and the sum of their losses."
    )
    versions = ", ".join(f"{key} {value}" for key, value in found["versions"].items())
    return "\n".join([head, "", *lines, "", f"`{found['command']}`, with {versions}."])


def _compiled(found: Sequence[Mapping]) -> str:
    columns = ("slice", "stages", "call", "layers", "arguments", "temporary", "beside", "in all", "plan", "ratio", "s")
    lines = [_row(columns), "|---" * len(columns) + "|"]
    for row in found:
        sizes = [row[part] / 2**30 for part in ("arguments", "temporary", "beside", "needed", "planned")]
        cells = [row["topology"], ", ".join(row["kinds"]), f"{row['work']}, {row['rows']} x {row['tokens']:,} tokens"]
        cells += [str(row["layers"]), *(f"{size:.1f}" for size in sizes), f"**{row['planned'] / row['needed']:.2f}**"]
        lines.append(_row([*cells, f"{row['compile_seconds']:.0f}"]))
    head = (
        "Every distinct call of `sweeps/gsm8k_7b.yaml` (7B, bfloat16, `memory.remat: layers`), compiled for slices that"
        " are not here. GiB of one device: arguments and temporaries by the compiler's account, what is in memory"
        " beside the call, and what the arithmetic of `--plan` says of all three (aim at full depth: within a tenth)."
        " Seconds of compiling, with other work on both cores. The factors of the plan's arithmetic come from this"
        " table: those of scoring from both slices, all others from v5e:4x4 without its step values, so that the"
        " other rows are held out."
    )
    command = "`python -m scaling.compile sweeps/gsm8k_7b.yaml --layers 4 30 --json FILE`"
    return "\n".join([head, "", *lines, "", f"{command}; four layers were compiled for v5e:4x4 alone."])


def _packing(found: Mapping) -> str:
    lines = [_row(("policy", "seeds", "against one after another")), "|---|---|---|"]
    lines += [_row((row["size"], str(row["seeds"]), f"**{row['ratio']:.2f}x**")) for row in found["rows"]]
    head = (
        "Gradients of policies of one shape in one program with `vmap`, on one thread. A sweep does not pack: a program"
        " for many policies leaves the core's caches, and a second core is better used by a second worker."
    )
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    return "\n".join([head, "", *lines, "", f"`{found['command']}`, on: {machine}."])


def _engine(found: Mapping) -> str:
    planned = f"{found['planned_runs']:,.0f} runs ({found['planned_stages']:,.0f} stages)"
    rows = [
        ("a trivial stage, of 1,000 on Ray", f"{found['milliseconds_per_stage']:.1f} ms", "10 ms"),
        (f"planning {planned}", f"{found['planning_seconds']:.1f} s", "5 s"),
        ("peak memory of that", f"{found['peak_memory_gigabytes']:.2f} GB", "1 GB"),
    ]
    lines = [_row(("work", "measured", "at most")), "|---|---|---|", *map(_row, rows)]
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    return "\n".join([*lines, "", f"`python benchmarks/engine.py`, on: {machine}."])


def _adaptive(found: Mapping) -> str:
    columns = ("policy", "M", "negatives", "fewer tokens", "fewer FLOPs", "same pits", "faster")
    lines = [_row(columns), "|---" * len(columns) + "|"]
    for row in found["rows"]:
        counts = (str(row["rollouts_per_prefix"]), f"{row['num_negatives']:,}")
        ratios = (f"**{row['token_ratio']:.1f}x**", f"{row['flops_ratio']:.1f}x")
        same = f"{100 * row['same_pits_fraction']:.1f} %"
        lines.append(_row((row["policy"], *counts, *ratios, same, f"{row['seconds_ratio']:.1f}x")))
    head = (
        "Against the exhaustive estimate with M continuations of every prefix (aims: 3x fewer tokens, the same pits on"
        " 99 % of negatives). Tokens and FLOPs are exact counts, seconds those of one worker with verification."
    )
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    return "\n".join([head, "", *lines, "", f"`python -m benchmarks.adaptive`, on: {machine}."])


def _analysis(found: Mapping) -> str:
    study, table = found["study"], found["tabulate"]
    rows = [
        (f"{study['runs']} runs, {study['draws']:,} draws, figures and report", f"{study['seconds']:.1f} s", "60 s"),
        (f"tabulating {table['runs']:,} runs", f"{table['seconds']:.1f} s", "30 s"),
    ]
    lines = [_row(("work", "measured", "at most")), "|---|---|---|", *map(_row, rows)]
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    return "\n".join([*lines, "", f"`python -m benchmarks.analysis_speed`, on: {machine}."])


def _growth(found: Mapping) -> str:
    picture = "![Rates of sampling and training against what they depend on](figures/growth.svg)"
    said = "One worker of one thread; one thing varies, the rest is 64 prompts of 4 completions of 24 tokens, size xs."
    return "\n".join([picture, "", said, "", _source(found)])


def _verdict(row: Mapping, value: float) -> str:
    return "met" if value >= row["target"] else "missed"


def _bounds(found: Mapping, key: str) -> list[str]:
    """What bounds each missed row; a row without an explanation says so."""
    missed: dict[str, list[str]] = {}
    for row in found["rows"]:
        if row[key] < row["target"]:
            text = BOUNDS.get((row["work"], row["size"]), "what bounds it is not known yet.")
            missed.setdefault(text, []).append(f"{row['what']}, {row['size']}")
    return ["", *(f"- {'; '.join(rows)}: {text}" for text, rows in missed.items())] if missed else []


def _source(found: Mapping) -> str:
    parts = [*found["machine"].items(), *found["versions"].items()]
    repeats = f", {found['repeats']} repeats" if "repeats" in found else ""
    return f"`{found['command']}`{repeats}, on: {', '.join(f'{key} {value}' for key, value in parts)}."


def _row(cells) -> str:
    return f"| {' | '.join(cells)} |"


def _read(results: Path, name: str) -> Any:
    path = results / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


if __name__ == "__main__":
    main()
