"""A tiny sweep for tests of the command line, and toy stages that it can run instead of the real ones."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from scaling import sweep
from scaling.engine.inline import InlinePool
from scaling.kinds import kind_names

TINY = {
    "question": "Does it run?",
    "problems": {
        "family": "modular_sum",
        "modulus": 11,
        "operands": 3,
        "zipf_exponent": 0.0,
        "num_validation": 8,
        "num_test": 16,
    },
    "policy": {"size": "xxs", "base": "random"},
    "rollouts": {"samples_per_problem": 4},
    "step_values": {"rollouts_per_prefix": 2},
    "evaluation": {"samples_per_problem": 2, "pass_at": [2]},
    "grid": {"algorithm": ["sft", "rft", "dpo", "step_dpo"], "data_size": [8]},
    "seeds": [0, 1],
}


def writer(folder: Path) -> Callable[..., str]:
    """Write the tiny sweep with changes into a folder, which holds its store and results too; the path comes back."""

    def write(**changes: object) -> str:
        path = folder / "tiny.yaml"
        path.write_text(yaml.safe_dump({**TINY, "store": "store", "results": "results", **changes}))
        return str(path)

    return write


class Toys:
    """In-process stages of no work, for every kind, that note what ran and fail or stop where they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.ran: list[str] = []
        self.raises: dict[str, BaseException] = {}
        self.error_of = lambda config: 0.5
        self.before = lambda kind, config: None
        runners = {kind: self._runner(kind) for kind in kind_names()}
        monkeypatch.setattr(sweep, "_pool", lambda sweep_, store, arguments: InlinePool(store, runners))
        monkeypatch.setattr(sweep, "_write_report", lambda *arguments: None, raising=False)

    def _runner(self, kind):
        def run(config, inputs, out):
            self.ran.append(kind)
            self.before(kind, config)
            if kind in self.raises:
                raise self.raises[kind]
            (out / "done").write_text(kind)
            return {"error": self.error_of(config)} if kind == "evaluation" else {}

        return run


def everything_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Path -> (size, time of last change), folders included."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in (folder, *folder.rglob("*"))
    }


def counts(text: str) -> dict[str, int]:
    """The counts of the plan's line of stages."""
    line = re.search(r"^Stages: .*", text, re.M).group()
    return {name: int(number) for number, name in re.findall(r"(\d+) (named|distinct|stored|to run)", line)}
