"""Speed side by side with the engine's own ceiling and with peers, each in its own process on the same processors."""

if __name__ != "fermo.benchmarks":  # a second copy of every class would appear under the short name
    raise ImportError("import this package as fermo.benchmarks, not as benchmarks")
