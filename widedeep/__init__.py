"""Parts specific to the Wide & Deep model: features, data, network and training."""
