"""The JSON protocol of `/v1/ws`."""
