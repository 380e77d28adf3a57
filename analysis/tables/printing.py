"""How a report is printed: what algorithms are called, and how wide figures are.

In: names as tables have them, such as `rft, max_positives=4`, and the user's labels. Out: text. A `printing` is in
force while a report is drawn, so that all its sentences, tables and figures follow it. Files for programs keep the
names.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType

from scaling.config.algorithms import algorithms


@dataclass(frozen=True)
class Printing:
    """What the user asks of a report's text and figures."""

    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # of names, and of settings
    width: float | None = None  # of figures in inches; None: each figure's own


_CURRENT: ContextVar[Printing] = ContextVar("printing", default=Printing())  # noqa: B039  (it is frozen)


@contextmanager
def printing(asked: Printing) -> Iterator[None]:
    """Print as asked until the end of the block."""
    token = _CURRENT.set(asked)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current() -> Printing:
    return _CURRENT.get()


def label(algorithm: str) -> str:
    """An algorithm's label; settings after its name are kept."""
    labels = current().labels
    if algorithm in labels:
        return labels[algorithm]
    name, comma, rest = algorithm.partition(",")
    settings = [f" {labels.get(part.strip())}" if part.strip() in labels else part for part in rest.split(",")]
    return name_of(name) + comma + ",".join(settings)


def name_of(name: str) -> str:
    """The label of an algorithm without its settings; a user's table may hold names that nothing here knows."""
    known = {algorithm.name: algorithm.label for algorithm in algorithms()}
    return current().labels.get(name, known.get(name, name))


def short(algorithm: str, without: Sequence[str] = ()) -> str:
    """An algorithm's name in a figure: its settings in words, without signs. without: settings to leave out."""
    labels = current().labels
    kept = [setting for setting in settings_of(algorithm) if setting not in without]
    words = settings_text(kept)
    text = labels.get(algorithm, ", ".join(filter(None, (name_of(algorithm.partition(",")[0]), words))))
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text  # a legend leaves out labels that begin with _


def settings_of(algorithm: str) -> list[str]:
    """What follows an algorithm's name: its settings."""
    return [part.strip() for part in algorithm.split(",")[1:]]


def settings_text(settings: Sequence[str]) -> str:
    """Settings in words, or as their labels if they have some."""
    labels = current().labels
    return ", ".join(labels.get(setting, _in_words(setting)) for setting in settings)


def _in_words(setting: str) -> str:
    name, equals, value = setting.partition("=")
    if not equals:
        return setting
    if re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?", value):
        value = f"{float(value):g}"
    return f"{name} {value}".replace("_", " ")
