"""What only this model knows: its features, its data, its network and its training."""
