"""The error of a wrong sweep file, and the nearest known word to a wrong one."""

import difflib
import re
from collections.abc import Sequence


class ConfigError(ValueError):
    """A sweep file is wrong; the message says where and what to do."""


def did_you_mean(word: object, known: Sequence[str]) -> str:
    """A sentence that begins with a space: the nearest known word, or the first twelve of them."""
    return nearest(word, known) or f" Known: {', '.join(known[:12])}" + (", ..." if len(known) > 12 else ".")


def nearest(word: object, known: Sequence[str]) -> str:
    """A sentence that begins with a space: the nearest known word, if one is near.

    Capitals, hyphens and underscores do not count; of keys in one section, only what follows its name is compared.
    """
    section = re.sub(r"\[\d+\]", "", str(word)).rpartition(".")[0]
    shared = section and all(name.startswith(f"{section}.") for name in known)
    start = len(section) + 1 if shared else 0
    plain = {_plain(name[start:]): name for name in known}
    wanted = str(word).rpartition(".")[2] if shared else str(word)
    close = difflib.get_close_matches(_plain(wanted), list(plain), n=1, cutoff=0.6)
    return f" Did you mean {plain[close[0]]!r}?" if close else ""


def _plain(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")
