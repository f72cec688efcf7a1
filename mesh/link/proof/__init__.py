"""Who is at the other end: credentials, and who may wait for how long without them."""
