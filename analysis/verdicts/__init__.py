"""One study analysed: evidence, claims and verdicts."""
