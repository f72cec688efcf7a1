"""This node as a destination: the flows by which it pulls what is wanted here from the logs of other nodes."""
