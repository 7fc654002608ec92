"""Scoring of any number of rows into parquet parts, by an engine in each worker or by servers
(docs/bulk-scoring.md)."""
