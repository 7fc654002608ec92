"""What preprocessing learns from the training rows: statistics, operators that hold them, their files."""
