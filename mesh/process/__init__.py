"""The node as a process: event loop, listeners, log lines, start, stop and reload."""
