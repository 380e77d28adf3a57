"""Sets of problems: drawn from a law, or read from rows, and split."""
