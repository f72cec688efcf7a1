"""Commands that show how a node and the mesh are, and act on what they show."""
