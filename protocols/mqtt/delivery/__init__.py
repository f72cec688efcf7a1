"""The way out of a connection: PUBLISH frames, packet ids, acks."""
