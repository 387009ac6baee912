"""Behaviour cloning with an unconstrained network."""
