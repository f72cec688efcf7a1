"""This node as an origin: what other nodes pull from its log, and what is kept for them while they are away."""
