"""MQTT control packets and bytes. Sans-IO."""
