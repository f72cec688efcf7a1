"""How far consumers have come in the log: positions, what came back, and how much is still to come."""
