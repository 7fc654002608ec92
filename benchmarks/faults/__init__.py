"""Campaign of faults: odd requests, kills, signals, full disks, overload, starts and soak, each with its count."""
