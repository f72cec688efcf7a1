"""Events of other nodes on their way into our log, and ours on their way to them."""
