"""Contracts of user modules: what this project asks of them, what the original did, and one form for both."""
