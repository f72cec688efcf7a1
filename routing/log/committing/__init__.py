"""Group commit: what waits together, when it is written and synced, and by which threads."""
