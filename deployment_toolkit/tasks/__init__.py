"""Independent tasks, and what runs them one after the other or at the same time."""
