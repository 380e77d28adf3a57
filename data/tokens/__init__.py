"""Tokenizers, steps as tokens, and limits on new tokens."""
