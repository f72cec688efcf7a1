"""Events in: one by one, in batches, and as requests that wait for their answer."""
