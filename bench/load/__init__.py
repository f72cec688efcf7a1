"""The load: raw clients, prepared bytes, and how they are driven."""
