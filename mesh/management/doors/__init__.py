"""Who may come in at the console listener: login sessions, rights, and how a "no" looks."""
