"""What the world is made of: MJCF written here, and a catalogue that resolves robots from packages."""

if __name__ != "fermo.assets":  # a second copy of every class would appear under the short name
    raise ImportError("import this package as fermo.assets, not as assets")
