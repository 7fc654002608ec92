"""Health of models: whether they answer one row, and what is done if they do not."""
