"""The brokers under test: started, measured, stopped."""
