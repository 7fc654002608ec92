"""Pages of HTML that work from disk: one file each, with charts, tables and the charting library in it."""
