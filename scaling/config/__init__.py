"""The schema of a sweep file, with every default."""
