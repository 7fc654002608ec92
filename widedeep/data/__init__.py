"""Data sets: parquet files read and written in batches."""
