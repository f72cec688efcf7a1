"""Replication: exactly once from an origin's log into the log of every node that wants its events (architecture §6)."""
