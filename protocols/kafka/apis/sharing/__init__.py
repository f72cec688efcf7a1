"""APIs of share groups."""
