"""The parts of a report, each made on its own. If one fails, the report names it and has the rest.

In: the name of a part, and the code that makes it. Out: `Parts`, with a line for each part that could not be made, and
the section that says so. A figure that fails does not cost hours of compute.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from analysis.page.rendering import Section

_ANALYSIS = Path(__file__).parents[1]
_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Parts:
    """The parts of a report that could not be made so far."""

    failed: list[str] = field(default_factory=list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Make one part inside this context. An error of the disk is not the part's fault, and is raised."""
        try:
            yield
        except (OSError, MemoryError):
            raise
        except Exception as error:  # the edge of a part, like that of a stage
            frames = traceback.extract_tb(error.__traceback__)
            place = next((one for one in reversed(frames) if _ANALYSIS in Path(one.filename).parents), frames[-1])
            text = " ".join(f"{type(error).__name__}: {error}".split())
            self.failed.append(f"{name}: {text} ({Path(place.filename).name}, line {place.lineno})")

    def made(
        self, name: str, make: Callable[_Given, Iterable[_Made]], *args: _Given.args, **kwargs: _Given.kwargs
    ) -> list[_Made]:
        """What one part consists of; nothing if it could not be made."""
        found: list[_Made] = []
        with self.part(name):
            found += make(*args, **kwargs)
        return found

    def section(self) -> list[Section]:
        """The section that lists what is missing; empty if nothing is."""
        if not self.failed:
            return []
        paragraph = "These parts could not be made; everything else is complete. Please report these errors."
        return [Section("Parts that are missing", (paragraph,), tuple(self.failed))]

    def warning(self) -> tuple[str, ...]:
        """Lines for the terminal; empty if nothing is missing."""
        return tuple(f"Missing in the report: {line}" for line in self.failed)
