"""``report.html``: a run as a page to look at. ``python -m runner.report.html RUN`` makes it again."""
