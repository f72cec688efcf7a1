"""Connections, sessions and links as state machines. Sans-IO; what stands behind a link is in nodes/."""
