"""Compile what a sweep runs for TPUs that are not here: `python -m scaling.compile sweeps/NAME.yaml`.

In: a sweep file whose `resources.hardware` names TPU slices, or --topology. Out: a line for each distinct call of a
policy on each slice: the memory that it takes of a device by the TPU compiler's own account, whether it fits, and what
bounds it. Nothing runs. The compiler comes with the extra `tpu`.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import scaling.origins  # noqa: F401  (first, since it says why the others cannot be imported)
from scaling.config.errors import ConfigError
from scaling.config.resources import Hardware
from scaling.config.sweep import Sweep
from scaling.engine.jax_environment import ACCELERATOR, pin
from scaling.files import replace_text
from scaling.planning.plan import plan
from scaling.planning.sweep_file import load_sweep
from scaling.plugins import add_imports, load_plugins
from scaling.pricing.programs import BESIDE, Program, with_narrower
from scaling.pricing.roofline import load
from scaling.pricing.stage_memory import GIB, device_of, programs

if TYPE_CHECKING:
    from scaling.lowering import Compiled

EXIT_FULL, EXIT_USAGE = 1, 2
# Peaks of one device in bfloat16 products and of its memory, and its memory: Google's documentation of each generation.
CHIPS = {
    "v4": (2.75e14, 1.228e12, 32.0),
    "v5e": (1.97e14, 8.19e11, 16.0),
    "v5p": (4.59e14, 2.765e12, 95.0),
    "v6e": (9.18e14, 1.64e12, 32.0),
}
# No metadata server is asked, several processes may compile at once, and nothing but errors is logged.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "JAX_PLATFORMS": "cpu",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_MIN_LOG_LEVEL": "3",
    ACCELERATOR: "TPU",  # as its workers have it
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 everything fits, 1 something does not, 2 wrong usage, or no compiler."""
    arguments = _parser().parse_args(argv)
    try:
        load_plugins(arguments.imports)
        sweep = load_sweep(arguments.file, arguments.set)
        if sweep.memory.attention == "cudnn":
            raise ConfigError(
                "memory.attention is 'cudnn', which a TPU does not have; give --set memory.attention=xla or einsum."
            )
        if arguments.json is not None and not arguments.json.parent.is_dir():
            raise ConfigError(f"--json {arguments.json}: {arguments.json.parent} is no folder; make it first.")
        if importlib.util.find_spec("libtpu") is None:
            raise ConfigError("the TPU compiler is not installed; install the extra tpu: pip install '.[tpu]'.")
        os.environ.update(ENVIRONMENT)  # before jax is imported, here and in the processes
        pin(os.environ)
        said = compile_sweep(sweep, slices(sweep, arguments.topology), arguments.layers, arguments.processes)
        if arguments.json is not None:
            replace_text(arguments.json, json.dumps([verdict.row for verdict in said], indent=1) + "\n")
        return 0 if all(verdict.fits for verdict in said) else EXIT_FULL
    except (ConfigError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE


def compile_sweep(sweep: Sweep, hardware: Iterable[Hardware], layers: Sequence[int], processes: int) -> "list[Verdict]":
    """Compile for each slice, and print a line for each call as it is done. layers: none for as many as there are."""
    from scaling.lowering import compile_for

    verdicts = []
    spawning = multiprocessing.get_context("spawn")  # a fork would take over jax's threads
    with ProcessPoolExecutor(processes, spawning) as pool:
        for one in hardware:
            calls: dict[Program, tuple[str, ...]] = {}
            for number in layers or (None,):
                calls |= distinct(sweep, one, number)
            print(f"{one.name}: {len(calls)} calls for {one.topology}, of {one.memory_gib_per_device:g} GiB a device")
            found = pool.map(compile_for, calls, [one.topology] * len(calls))
            for (program, kinds), compiled in zip(calls.items(), found, strict=True):
                verdicts.append(Verdict(program, kinds, compiled, one))
                print(f"  {verdicts[-1].line}", flush=True)
    return verdicts


def slices(sweep: Sweep, topology: str | None) -> list[Hardware]:
    """The TPU slices of the sweep, or the one asked for, which may have an entry there."""
    named = [one for one in sweep.resources.hardware if one.topology is not None and topology in (None, one.topology)]
    if named:
        return named
    if topology is None:
        raise ConfigError("no entry of resources.hardware has a topology; add one, or give --topology v5e:4x4.")
    generation = topology.partition(":")[0]
    if generation not in CHIPS:
        raise ConfigError(f"{topology!r} is no TPU slice; its generation is one of {', '.join(CHIPS)}.")
    from scaling.lowering import num_devices

    flops, moved, gib = CHIPS[generation]
    return [
        Hardware(
            name=topology,
            num_devices=num_devices(topology),
            flops_per_second_per_device=flops,
            bytes_per_second_per_device=moved,
            memory_gib_per_device=gib,
            topology=topology,
        )
    ]


def distinct(sweep: Sweep, hardware: Hardware, layers: int | None = None) -> dict[Program, tuple[str, ...]]:
    """Every distinct call of the sweep on this hardware -> the kinds of stages that make it. layers: instead of all."""
    found: dict[Program, dict[str, None]] = {}
    for stage in plan(sweep, lambda stage: None).stages:
        device = device_of(stage, sweep.resources, sweep.memory, hardware)
        for longest in programs(stage, device):
            for program in with_narrower(longest, device.tokens_limit):
                shape = replace(program.shape, num_layers=layers or program.shape.num_layers)
                found.setdefault(replace(program, shape=shape), {})[stage.kind] = None
    return {program: tuple(kinds) for program, kinds in found.items()}


@dataclass(frozen=True)
class Verdict:
    """A compiled call against the memory of a device."""

    program: Program
    kinds: tuple[str, ...]  # of the stages that make it
    compiled: "Compiled"
    hardware: Hardware

    @property
    def beside(self) -> float:
        """Bytes in memory that are no argument of the call."""
        return sum(size for part, size in self.program.memory.items() if part in (*BESIDE, "oracle"))

    @property
    def needed(self) -> float:
        """Bytes on a device."""
        refused, compiled = self.compiled.refused, self.compiled
        return self.beside + (compiled.arguments + compiled.temporary if refused is None else refused)

    @property
    def fits(self) -> bool:
        return self.compiled.refused is None and self.excess <= 0

    @property
    def excess(self) -> float:
        """Bytes by which it does not fit; 0 or less where it does."""
        return self.needed - self.hardware.memory_gib_per_device * GIB

    @property
    def planned(self) -> float:
        """Bytes on a device by the arithmetic of `--plan`."""
        return sum(self.program.memory.values())

    @property
    def row(self) -> dict[str, Any]:
        """What a program reads of it; sizes in bytes of one device."""
        program, compiled = self.program, self.compiled
        return {
            "hardware": self.hardware.name,
            "topology": self.hardware.topology,
            "kinds": list(self.kinds),
            "work": program.work,
            "mesh": program.axes,
            "layers": program.shape.num_layers,
            "rows": program.rows,
            "tokens": program.length + program.new_tokens,
            "arguments": compiled.arguments,
            "temporary": compiled.temporary,
            "beside": self.beside,
            "needed": self.needed,
            "planned": self.planned,
            "refused": compiled.refused is not None,
            "fits": self.fits,
            "compile_seconds": compiled.seconds,
        }

    @property
    def line(self) -> str:
        """What is said of it."""
        program, compiled, work = self.program, self.compiled, load(self.program)
        rows = f"{program.rows} {'packed rows ' if program.longest_sequence else ''}x {program.length} tokens"
        if program.new_tokens:
            rows = f"{program.rows} rows of {program.prompts} prompts, {program.length} + {program.new_tokens} tokens"
        parts = f"arguments {_gib(compiled.arguments)}, temporary {_gib(compiled.temporary)}"
        if compiled.refused is not None:
            parts = f"refused by the compiler: the call alone {_gib(compiled.refused)}"
        if self.beside:
            parts += f", beside it {_gib(self.beside)}"
        short = f" by {_gib(self.excess)}" if self.excess > 0 else ""  # a compiler keeps a little for itself
        fits = "fits" if self.fits else f"does not fit{short}"
        seconds = sorted(work.seconds(self.hardware).items(), key=lambda bound: -bound[1])
        bounds = ", ".join(f"{by} {least:.3g} s" for by, least in seconds)
        return (
            f"{', '.join(self.kinds)}: {program.work}, {program.shape.num_layers} layers, {rows}: {_gib(self.needed)} a"
            f" device ({parts}; the plan: {_gib(self.planned)}), {fits}; {work.flops:.2g} FLOPs and {work.bytes:.2g}"
            f" bytes a device, bound by {bounds}; compiled in {compiled.seconds:.0f} s"
        )


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scaling.compile", description="Compile a sweep for TPUs that are not here; nothing runs."
    )
    parser.add_argument("file", type=Path, help="a sweep, such as sweeps/gsm8k_7b.yaml")
    parser.add_argument(
        "--topology", metavar="NAME", help="a slice such as v5e:4x4; without it, those of resources.hardware"
    )
    parser.add_argument(
        "--layers",
        type=_count,
        nargs="+",
        default=[],
        metavar="N",
        help="so many of the decoder's layers, for a quick look",
    )
    parser.add_argument(
        "--processes", type=_count, default=1, metavar="N", help="that compile side by side; 1 unless given"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what is said of each call there as well")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for scaling.sweep")
    add_imports(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
