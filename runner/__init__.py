"""From one YAML to experiments, stages and results."""
