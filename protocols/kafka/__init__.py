"""Kafka's wire protocol: a node as a cluster of one broker. docs/kafka.md says what is served."""
