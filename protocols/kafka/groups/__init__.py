"""Groups: who is a member, who reads what, and how far a group has read."""
