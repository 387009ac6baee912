"""Observation to action: the policy contract, checkpoints and one folder per family."""

if __name__ != "fermo.policies":  # a second copy of every class would appear under the short name
    raise ImportError("import this package as fermo.policies, not as policies")
