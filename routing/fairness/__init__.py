"""Shares of one node: memory, connections and turns of the loop, per user, so that nobody takes what all need."""
