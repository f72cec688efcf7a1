"""Commands about events: in, out, and Kafka's topics and groups."""
