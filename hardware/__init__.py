"""Robots: the contract, drivers, twins that speak the device's protocol, and the real-time loop."""

if __name__ != "fermo.hardware":  # a second copy of every class would appear under the short name
    raise ImportError("import this package as fermo.hardware, not as hardware")
