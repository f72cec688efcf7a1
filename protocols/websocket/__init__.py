"""WebSocket on the HTTP listener: frames (RFC 6455) and the MQTT subprotocol."""
