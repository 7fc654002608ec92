"""Runner of the experiments in a YAML configuration: stages and results."""
