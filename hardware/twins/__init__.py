"""Twins: separate processes that speak a device's wire protocol, with physics behind it and faults on request."""
