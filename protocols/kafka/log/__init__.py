"""What the wire server asks of the log: appending and fetching batches as they are."""
