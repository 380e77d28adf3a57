"""Plug-ins in tests: what docs/plugins.md shows, and processes that forget what they loaded."""

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from analysis.fitting import forms
from scaling import kinds, plugins
from scaling.config import algorithms, problems
from scaling.engine.pool import RayPool
from scaling.engine.progress import Progress
from scaling.engine.results_dir import open_store
from scaling.engine.run import Report, execute
from scaling.engine.store import Store
from scaling.planning.plan import Plan, plan
from scaling.planning.sweep_file import load_sweep
from scaling.stage import Stage

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
ORPO, PARITY = ROOT / "docs/plugins/orpo.py", ROOT / "docs/plugins/parity.py"


def block(language: str, section: str = "The study") -> str:
    """The first block of a language from the heading of a section on."""
    return re.search(rf"^## {section}\n.*?^```{language}\n(.*?)^```", PAGE, re.M | re.S).group(1)


@contextlib.contextmanager
def forgetting():
    """Everything that is registered inside is unknown again afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for registry in (kinds._REGISTRY, algorithms._REGISTRY, problems._REGISTRY):
            patch.setattr(registry, "records", dict(registry.records))
        patch.setattr(plugins, "_loaded", {})
        patch.setattr(sys, "path", list(sys.path))
        yield patch
        for name in forms.registered():
            del forms._FORMS[name]
        for plugin in plugins._loaded.values():
            for file in plugin.files:
                sys.modules.pop(Path(file).stem, None)


def planned(file: Path) -> Plan:
    sweep = load_sweep(file)
    return plan(sweep, open_store(sweep).numbers)


def on_workers(stages: Sequence[Stage], store: Store, resources: dict) -> Report:
    with RayPool(store.root, None, resources) as pool:
        return execute(stages, store, pool, Progress(Console(file=io.StringIO())))
