"""Nobody can hurt anybody: one client does the worst it can, and another one must not feel it. See README.md."""
