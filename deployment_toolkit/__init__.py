"""What any model could use: plug-in contracts, runtimes, Triton sessions, servers, measurements and reports."""
