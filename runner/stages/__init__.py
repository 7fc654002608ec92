"""The stages of an experiment, as commands."""
