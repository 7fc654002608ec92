"""How time and memory grow: with rows of data, rows in flight, instances, and the size of embedding tables."""
