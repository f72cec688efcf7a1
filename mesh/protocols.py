"""The protocols of a node, in the order in which their servers are made. A new one is a folder and a line here."""
from __future__ import annotations

from typing import Any

from protocols.amqp.spec import AMQP10
from protocols.amqp091.spec import AMQP
from protocols.kafka.spec import KAFKA
from protocols.mqtt.spec import MQTT
from protocols.rest.spec import HTTP
from protocols.server import ProtocolSpec
from protocols.websocket.spec import WEBSOCKET

PROTOCOLS: tuple[ProtocolSpec[Any], ...] = (
    MQTT,
    WEBSOCKET,
    HTTP,
    KAFKA,
    AMQP,
    AMQP10,
)
