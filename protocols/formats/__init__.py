"""Events and their places as text, for all protocols: CloudEvents, JSON, ids, positions."""
