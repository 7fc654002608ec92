"""Search of serving settings: candidates, their visits, the choice."""
