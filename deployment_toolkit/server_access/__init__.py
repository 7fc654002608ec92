"""Key of a server's restricted endpoints: its files, and its way into programs that can't read it themselves."""
