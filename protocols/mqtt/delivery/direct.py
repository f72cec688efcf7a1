"""The direct lane of one connection: QoS 0 as it is published, dropped when the socket is slow. Sans-IO.

The router puts runs of events of one topic into the inbox, and calls flush_inbox() once at the end of its turn. What
needs nothing but topic and payload is encoded once for all who get it. Base of Outbound.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.mqtt.codec import encode
from protocols.mqtt.delivery.frames import FrameMaker
from protocols.mqtt.sessions.subscriptions import Plan
from routing.direct.subscription import DirectTarget
from routing.event import Event

if TYPE_CHECKING:
    from protocols.mqtt.broker import Broker
    from protocols.mqtt.sessions.session import Line, Session


def _has_extras(event: Event) -> bool:
    """True when a frame of it must say, or lose, more than topic and payload."""
    return bool(event.properties is not None or event.headers or event.key is not None)


class DirectOut(FrameMaker):
    __slots__ = ("connection", "inbox", "inbox_scheduled", "session")

    def __init__(self, broker: Broker, connection: Line, session: Session, aliases_max: int,
                 packet_bytes_max: int | None) -> None:
        super().__init__(broker, connection.version, session.identity, aliases_max, packet_bytes_max)
        self.connection = connection
        self.session = session
        self.inbox: list[tuple[list[Event], DirectTarget, bool]] = []
        self.inbox_scheduled = False

    def flush_inbox(self) -> None:
        """Send what the direct lane has put into the inbox, or drop it when the socket is slow."""
        inbox, self.inbox = self.inbox, []
        connection = self.connection
        broker = self.broker
        if connection.closed:
            return
        count = sum([len(run) for run, _, _ in inbox])
        held = connection.channel.buffered_bytes()
        if held and not broker.unsent.takes(connection.channel, held):
            broker.dropped(self.identity, "slow subscriber", count)
            return
        parts: list[bytes] = []
        shared = False
        simple_only = self.packet_bytes_max is not None or self.aliases_max > 0
        for run, target, plain in inbox:
            found = target.subscriptions
            plan = found[0].options.plan if len(found) == 1 else self.plan_of(run[0])
            if plan is None:
                continue
            if not simple_only and (plan.simple or not self.v5) and (plain or not any(map(_has_extras, run))):
                shared |= self._append_run(parts, run, alone=target.alone)
                continue
            for event in run:
                if len(found) > 1:
                    plan = self.plan_of(event)        # no local may leave out one of several subscriptions
                if plan is None:
                    continue
                frame = self.frame(event, 0, plan.retain_as_published and event.retain, plan, 0, False)
                if frame is not None:
                    parts.append(frame)
        if shared:
            connection.write_shared(parts, count, broker.settings.shared_frame_bytes_max)
        else:
            connection.write_publishes(parts, count)

    def _append_run(self, parts: list[bytes], run: list[Event], *, alone: bool) -> bool:
        """Frames of events of one topic that need nothing but topic and payload. Made once for all who share them.

        True: a large one is among them that others get, too.
        """
        append = parts.append
        v5 = self.v5
        topic = run[0].topic.encode()
        end = b"\0" if v5 else b""                          # no properties
        shared_max = -1 if alone else self.broker.settings.shared_frame_bytes_max
        size = -1
        head = b""
        shared = False
        for event in run:
            payload = event.payload
            if len(payload) != size:
                size = len(payload)
                head = encode.publish_head(0, topic, size + v5) + end       # QoS 0, DUP 0 [MQTT-4.3.1-1]
            if size > shared_max:
                if alone:
                    append(head)
                    append(payload)
                else:
                    append(self.broker.large_frames.frame(event, v5, head))
                    shared = True
                continue
            frame = event.mqtt5_frame if v5 else event.mqtt4_frame
            if frame is None:
                frame = head + payload
                if v5:
                    event.mqtt5_frame = frame
                else:
                    event.mqtt4_frame = frame
            append(frame)
        return shared

    def plan_of(self, event: Event) -> Plan | None:
        return self.session.subscriptions.plan(event.topic, event.publisher == self.session.client_id)
