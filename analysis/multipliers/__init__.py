"""Data-efficiency multipliers and what questions them."""
