"""Runtimes: one file each, found through `deployment_toolkit.registry`."""
