"""Configuration of a run: YAML to dataclasses, checked before anything starts."""
