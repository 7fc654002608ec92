"""Order of a sweep's measurements, within a time budget."""
