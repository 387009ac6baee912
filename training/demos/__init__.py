"""Demonstrations: scripted experts and their recorder."""
