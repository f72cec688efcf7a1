"""Kafka messages <-> bytes. Sans-IO."""
