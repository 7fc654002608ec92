"""Parts for any model: plug-in contracts, runtimes, Triton sessions, servers, measurements and reports."""
