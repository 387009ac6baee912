"""Batched simulation, tasks, perturbations and the adapters to other libraries.

Importing this package makes every task known to Gymnasium; torch and mujoco load with the first environment.
"""

if __name__ != "fermo.envs":  # a second copy of every class would appear under the short name
    raise ImportError("import this package as fermo.envs, not as envs")

from fermo.envs.registry import register_with_gymnasium

register_with_gymnasium()
