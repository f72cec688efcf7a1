"""Users, keys, roles, policies and link peers that are managed while the node runs: stored, versioned, mesh-wide."""
