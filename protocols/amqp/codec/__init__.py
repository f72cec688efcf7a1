"""AMQP 1.0 on the wire: types, performatives, frames, sections of a message. Sans-IO."""
