"""All consumers of a node: opened, stored, kept for who is away, and what becomes of what they give up."""
