"""From a sweep file to one deduplicated DAG of stages."""
