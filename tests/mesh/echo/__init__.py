"""A toy protocol, to see what one costs: lines over TCP. See spec.py, and test_new_protocol.py."""
