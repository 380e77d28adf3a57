"""The key of a server, from the environment only.

In: the name of a variable, and the setting that names it. Out: its value, which no message shows.
"""

import os


class ApiKeyError(ValueError):
    """A variable holds no key."""


def api_key(variable: str, setting: str) -> str:
    """The key that a variable of the environment holds. setting: its dotted key in the sweep file."""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ApiKeyError(
            f"{setting} is {variable}, and the environment has no such variable or an empty one; export it (on every"
            f" node), or set {setting}: null for a server that needs no key."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ApiKeyError(
            f"the variable {variable} holds blanks or special characters, which no key has; set it again."
        )
    return key
