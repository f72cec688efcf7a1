"""What one message costs in each part of the node, in one process without sockets."""
