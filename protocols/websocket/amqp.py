"""AMQP over WebSocket, 1.0 and 0-9-1 alike: the protocol header tells them apart, as on their TCP port.

Source: AMQP WebSocket Binding 1.0 §2.1 (the subprotocol); for 0-9-1 there is none, and its clients use the same.
"""
from __future__ import annotations

from protocols.websocket.bytestream import ByteStreamEndpoint


class AmqpOverWebSocket(ByteStreamEndpoint):
    subprotocol = "amqp"
