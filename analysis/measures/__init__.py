"""What some sweeps measure beside the error: trends, critical steps, base policies."""
