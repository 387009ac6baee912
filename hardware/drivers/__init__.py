"""Drivers: one file a device, each through the device's own SDK."""
