"""Preprocessing as tasks: each reads files, writes files beside their place and renames them."""
