"""Results of measurements: columns, tables, pictures."""
