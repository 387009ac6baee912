"""Scenes shared by tasks and twins."""
