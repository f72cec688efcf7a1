"""The streams of a tenant: which there are, and how they are made, changed and deleted."""
