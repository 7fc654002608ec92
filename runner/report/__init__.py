"""Report of a run: tables, pictures, report.md, the record of the run."""
