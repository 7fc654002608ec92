"""Wide & Deep network and its checkpoints."""
