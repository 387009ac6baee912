"""Target to motor command: inverse kinematics, impedance, safety limits. Batched torch; knows no simulator."""

if __name__ != "fermo.controllers":  # a second copy of every class would appear under the short name
    raise ImportError("import this package as fermo.controllers, not as controllers")
