"""Networks that a run can deploy: plug-ins, their options, and the commands that prepare data and checkpoints."""
