"""Data-efficiency multipliers and the checks on them."""
