"""Nodes that are one Kafka cluster to its clients: one of them leads, the others send clients to it."""
