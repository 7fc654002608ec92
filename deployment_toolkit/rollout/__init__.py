"""A new version of a model beside the old one on a running server: gated, switched to, and taken back."""
