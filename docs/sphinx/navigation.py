"""The site's navigation, read from docs/index.md: its second-level headings, and the pages that their lists link to.

In: Markdown. Out: titles and pages, and the blocks that Sphinx calls toctrees. They are added when the site is built,
because GitHub would show them as code.
"""

import re

Entry = tuple[str, str]  # title; page, without its suffix, relative to the page that lists it


def sections(index: str) -> dict[str, list[Entry]]:
    """Heading -> entries, of lines such as `- [Sweep files](sweeps.md): every key`."""
    parts = re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", index, re.M)
    return {heading: re.findall(r"^- \[([^\]]+)\]\((\S+)\.md\)", body, re.M) for heading, body in parts}


def toctree(caption: str, entries: list[str]) -> str:
    """A hidden block; an entry is a page, `title <page>`, or a pattern."""
    options = [f":caption: {caption}"] if caption else []
    return "\n".join(["\n\n```{toctree}", ":hidden:", ":glob:", *options, "", *entries, "```\n"])
