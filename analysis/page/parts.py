"""The parts of a report, each made on its own: one that cannot be made is named in the report, the rest is written.

In: the name of a part, and the code that makes it. Out: `Parts`, with a line for each part that could not be made, and
the section that says so. Hours of compute are not lost to a figure.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from analysis.page.rendering import Section

_ANALYSIS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Parts:
    """What could not be made of a report so far."""

    failed: list[str] = field(default_factory=list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Make one part inside of this. A disk that takes no file is not the part's error, and is raised."""
        try:
            yield
        except (OSError, MemoryError):
            raise
        except Exception as error:  # the edge of a part, as that of a stage
            frames = traceback.extract_tb(error.__traceback__)
            place = next((one for one in reversed(frames) if _ANALYSIS in Path(one.filename).parents), frames[-1])
            text = " ".join(f"{type(error).__name__}: {error}".split())
            self.failed.append(f"{name}: {text} ({Path(place.filename).name}, line {place.lineno})")

    def section(self) -> list[Section]:
        """One section, or none where everything was made."""
        if not self.failed:
            return []
        paragraph = "These parts could not be made; everything else is as it would be with them. Please report them."
        return [Section("Parts that are missing", (paragraph,), tuple(self.failed))]

    def warning(self) -> tuple[str, ...]:
        """What a terminal says of it, or nothing."""
        return tuple(f"Missing in the report: {line}" for line in self.failed)
