"""Behaviour cloning made smooth by what others proposed: CAPS, L2C2, LCP and LipsNet."""
