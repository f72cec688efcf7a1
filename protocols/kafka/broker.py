"""Broker: what the handlers of one node share. Knows no sockets and no messages; server.py gives it life."""
from __future__ import annotations

import base64
import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from protocols.authentication.authenticator import Authenticator
from protocols.authentication.scram_passwords import ScramPasswords
from protocols.kafka.cluster.view import Alone, Cluster
from protocols.kafka.groups.consumer_groups import ConsumerGroups
from protocols.kafka.groups.coordinator import Coordinator
from protocols.kafka.logins import Logins
from protocols.kafka.quotas.quotas import Quotas
from protocols.kafka.quotas.throttle import Throttle
from protocols.kafka.runtime.timers import Timers
from protocols.kafka.settings import KafkaSettings
from protocols.kafka.sharing.groups import ShareGroups
from protocols.kafka.sharing.sessions import ShareSessions
from protocols.kafka.topics.table import Topics
from protocols.managed import Policies
from routing.fairness.shares import Share
from routing.router import Router

log = logging.getLogger(__name__)

LOG_LINES_PER_S = 20        # about connections that were closed; the counters tell of all


class Broker:
    """One per tenant. Loop thread only."""

    def __init__(self, router: Router, authenticator: Authenticator, scram: ScramPasswords,
                 settings: KafkaSettings, policies: Policies | None = None) -> None:
        self.router = router
        self.authenticator = authenticator
        self.settings = settings
        self.policies = policies
        self.counters: Counter[str] = Counter()
        self.timers = Timers()
        self.logins = Logins(authenticator, scram, settings.mechanisms)
        self.topics = Topics(router, settings)
        self.groups = Coordinator(router, self.topics, settings, self.timers)
        self.consumer_groups = ConsumerGroups(router, self.topics, settings, self.timers, self.groups)
        self.connections = Share("Kafka connections", lambda: router.limits.user_share,
                                 router.shares.quotas.cap("connections"))
        self.bodies = Share("bytes of Kafka requests that are coming in", lambda: router.limits.user_share)
        self.answers = Share("fetched bytes that wait for their clients", lambda: router.limits.user_share)
        self.sessions = Share("partitions in fetch sessions", lambda: router.limits.user_share)
        self.share_groups = ShareGroups(router, self.topics, settings, self.timers, self.groups)
        self.share_sessions = ShareSessions(
            self.share_groups, self.topics, self.sessions, settings.session_partitions_max,
            settings.group_members_max, settings.request_items_max)
        self.quotas = Quotas(router, settings.quota_entities_max)
        self.throttle = Throttle(self.quotas)
        self.api_rows: list[Mapping[str, Any]] = []             # of ApiVersions; set by server.py
        self.cluster_id = settings.cluster_id or _cluster_id(
            ",".join(settings.cluster) or getattr(router.store, "epoch", ""))
        self.cluster: Cluster = Alone()                         # or with others; set by server.py
        if settings.cluster:
            self.topics.name_ids_by(self.cluster_id)
        self._second = -1
        self._lines_left = 0

    def notice(self, text: str, *arguments: object) -> None:
        """A log line about a peer: so many a second, so that a flood of bad peers does not become one of lines."""
        second = int(self.router.clock_s())
        if second != self._second:
            self._second, self._lines_left = second, LOG_LINES_PER_S
        self._lines_left -= 1
        if self._lines_left >= 0:
            log.info("kafka: " + text, *arguments)

    def address_for(self, local_address: str) -> tuple[str, int]:
        """What a client is told to connect to: the setting, else where it came to."""
        host, _, port = (self.settings.advertise or local_address).rpartition(":")
        return host.strip("[]") or "127.0.0.1", int(port) if port.isdigit() else 9092


def _cluster_id(epoch: str) -> str:
    """22 characters, as Kafka's are."""
    return base64.urlsafe_b64encode(hashlib.sha256(b"meshgate kafka cluster " + epoch.encode()).digest()[:16])[
        :22].decode()
