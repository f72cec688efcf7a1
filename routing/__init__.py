"""The routing core: events, topics, policy, streams and consumers. Knows no protocol and no socket."""
