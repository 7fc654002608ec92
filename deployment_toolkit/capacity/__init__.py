"""Capacity of a deployed model: the highest rate of requests that it answers within a latency budget."""
