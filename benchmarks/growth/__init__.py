"""Growth of time and memory with rows of data, rows in flight, instances, and the size of embedding tables."""
