"""The search of serving settings: which to try, their visits, the choice."""
