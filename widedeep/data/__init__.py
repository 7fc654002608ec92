"""Data sets: reading and writing of parquet files in batches."""
