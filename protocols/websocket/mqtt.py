"""MQTT over WebSocket.                                                                            Source: MQTT 5 §6"""
from __future__ import annotations

from protocols.websocket.bytestream import ByteStreamEndpoint


class MqttOverWebSocket(ByteStreamEndpoint):
    subprotocol = "mqtt"                # [MQTT-6.0.0-3], [MQTT-6.0.0-4]
