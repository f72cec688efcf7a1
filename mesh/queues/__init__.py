"""Queues that are declared on several nodes: one queue, in parts."""
