"""Forms of learning curves, their fits and their resamples."""
