"""Figures, from finished numbers."""
