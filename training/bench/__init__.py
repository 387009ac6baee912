"""Benchmarks of policies: success on held-out starts, and under a grid of perturbations."""
