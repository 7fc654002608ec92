"""How fast the best served format is beside TensorFlow, beside its own engine and beside the machine's limits."""
