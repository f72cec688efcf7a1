"""Streams as Kafka topics: names, ids, rights, configurations."""
