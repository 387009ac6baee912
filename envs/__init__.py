"""Batched simulation, tasks, perturbations and the adapters to other libraries."""

if __name__ != "fermo.envs":  # a second copy of every class would appear under the short name
    raise ImportError("import this package as fermo.envs, not as envs")
