"""Command `model-navigator`: convert, triton-config-model."""
