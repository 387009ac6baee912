"""Tasks: one file each, a frozen config, a model and pure batched functions."""
