"""Share groups (KIP-932): a group is a shared Consumer, a session is a member of it, and acks are of single records."""
