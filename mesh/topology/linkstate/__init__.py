"""What nodes say of themselves: signed, and the newest of every node."""
