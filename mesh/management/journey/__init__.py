"""The journey of a stored event: where it came in, by which rule, where it lies, who got it, who did not and why."""
