"""Runtimes: a folder each, found through `deployment_toolkit.library.registry`."""
