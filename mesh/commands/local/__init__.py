"""Commands about this machine: they need no running node."""
