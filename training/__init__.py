"""Demonstrations, datasets, training loops, robustness benchmarks and reports."""

if __name__ != "fermo.training":  # a second copy of every class would appear under the short name
    raise ImportError("import this package as fermo.training, not as training")
