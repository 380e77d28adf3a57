"""A stage that does nothing, for benchmarks/engine.py; workers import it by name."""

from collections.abc import Mapping
from pathlib import Path


def run(config: Mapping, inputs: Mapping[str, Path], out: Path) -> dict[str, float]:
    (out / "number.txt").write_text(str(config["number"]))
    return {"number": float(config["number"])}
