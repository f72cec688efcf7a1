"""The node: configuration, listeners, operations. Wires the other packages together."""
