"""The report of a study: its sections, files and conclusions."""
