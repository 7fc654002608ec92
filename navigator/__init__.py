"""The `model-navigator` command: convert, triton-config-model."""
