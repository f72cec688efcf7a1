"""Kafka's producers: their batches as they are, their ids, and transactions."""
