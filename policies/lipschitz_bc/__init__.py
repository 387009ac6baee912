"""Behaviour cloning with a network that is Lipschitz by construction."""
