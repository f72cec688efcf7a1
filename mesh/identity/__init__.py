"""Who is there: users, passwords, keys, tokens, lock-out, and the rules of a node."""
