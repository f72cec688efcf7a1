"""Who is at the other end, for all protocols: SASL, SCRAM, and the node's answer to a login."""
