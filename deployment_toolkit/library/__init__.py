"""Runtimes, one folder each, found through `deployment_toolkit.library.registry`."""
