"""Batches of Kafka producers: the way in, and what is known of who sent them."""
