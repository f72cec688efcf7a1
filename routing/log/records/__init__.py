"""Events and Kafka record batches: the bytes of the log, and what they may be searched by."""
