"""Declare a sweep in YAML, plan it as one deduplicated DAG of stages, and run it on Ray."""
