"""Curves and surfaces of anyone's points: `python -m analysis.fit` without outcomes."""
