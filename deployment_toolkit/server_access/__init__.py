"""The key of a server's restricted endpoints: who gets it, and how it reaches programs that know no way to take it."""
