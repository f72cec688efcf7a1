"""Kafka's ACLs, which are managed policies of the node: bindings, filters, and what of them has a counterpart."""
