"""Answering: a node that is asked by one link and answers by another: /management here, $cbs and others for Azure."""
from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from protocols.amqp.engine.receiving import Incoming
from protocols.amqp.engine.seams import LooksAtEach
from protocols.amqp.engine.sending import SendingLink


class Answering(ABC):
    """Of one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._links: list[SendingLink] = []             # that answers go to

    def reads(self, link: SendingLink) -> None:
        self._links.append(link)

    def left(self, link: SendingLink) -> None:
        if link in self._links:
            self._links.remove(link)

    @abstractmethod
    def send(self) -> None:
        """The answers that wait, as far as there is credit."""

    @abstractmethod
    def take(self, delivery: Incoming, message: bytes) -> None:
        """A request. Raises LinkFault."""


class AskingTarget(LooksAtEach):
    """TargetNode of a link that brings requests."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    def take(self, delivery: Incoming, message: bytes) -> None:
        self._answering.take(delivery, message)

    def detach(self, *, closed: bool) -> None:
        return


class AnswerSource:
    """SourceNode of a link that takes answers."""

    def __init__(self, answering: Answering, link: SendingLink) -> None:
        self._answering = answering
        self._link = link
        answering.reads(link)

    def credit_changed(self) -> None:
        self._answering.send()

    def drain(self) -> None:
        self._answering.send()
        self._link.drained()

    def accepted(self, held: list[Any]) -> None:
        return

    def settle(self, held: Any, state: Any, *, settled: bool) -> None:
        return

    def detach(self, *, closed: bool) -> None:
        self._answering.left(self._link)
