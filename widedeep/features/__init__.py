"""Features: specification, columns, Outbrain's list."""
