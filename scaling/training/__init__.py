"""Training as functions: batches, log-probabilities, updates, checkpoints and evaluation."""
