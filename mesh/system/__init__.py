"""The machine as all parts use it: names, files, TLS, limits of the process, and the watch on the loop."""
