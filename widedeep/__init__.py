"""Parts of this model alone: its features, its data, its network and its training."""
