"""The error of a wrong sweep file, and the nearest known word to a wrong one."""

import difflib
from collections.abc import Sequence


class ConfigError(ValueError):
    """A sweep file is wrong; the message says where and what to do."""


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """A sentence that begins with a space: the nearest known word, or the first twelve of them."""
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(known[:12])}" + (", ..." if len(known) > 12 else ".")
