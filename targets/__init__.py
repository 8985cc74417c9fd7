"""Targets: what a device is, how code is built for it, and where it runs."""
