"""What can end a program before its time: interrupts, an output that nobody reads, a lack of memory."""
