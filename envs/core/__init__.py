"""Batched simulation: back ends, randomness, tasks, vector environments."""
