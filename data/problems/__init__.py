"""Problem families, one file each."""
