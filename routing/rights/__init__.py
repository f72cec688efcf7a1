"""Who may do what on which topics: rules, the policies that are made of them, and logins that end."""
