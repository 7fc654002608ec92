"""A model repository as a container image, with the rows that a gate needs."""
