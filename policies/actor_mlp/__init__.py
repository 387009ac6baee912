"""Actors that reinforcement learning leaves behind."""
