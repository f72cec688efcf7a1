"""Events out: server-sent events, pages of a stream, retained events."""
