"""Pretrained checkpoints: their files, formats and shapes."""
