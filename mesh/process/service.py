"""The life of a node: start in order, timers, signals, stop in order and in bounded time. Called by `meshgate up`.

    start   bind every address ▸ lock and recover the log ▸ open the listeners ▸ ready
    stop    not ready ▸ stop accepting ▸ protocols say goodbye ▸ positions and log to disk
"""
from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from mesh.administration.effective import Base
from mesh.configuration.config import load_config
from mesh.configuration.effective import warnings_of
from mesh.configuration.outside import resolve_links, resolve_outside
from mesh.configuration.settings import Config
from mesh.identity.apikeys import resolve_api_keys
from mesh.management.admin import Management
from mesh.management.figures.sampler import resident_bytes
from mesh.node import Node
from mesh.process.banner import print_banner, print_first_password
from mesh.process.first_admin import first_admin
from mesh.process.listeners.listener import Listener
from mesh.process.listeners.localsocket import LocalSocket
from mesh.process.logs import set_up_logs
from mesh.process.loop.lean import warm_up
from mesh.process.loop.loop import loop_factory
from mesh.process.loop.memory import FreeMemory
from mesh.process.reload import reload
from mesh.protocols import PROTOCOLS
from mesh.system.files.clockfile import write_note
from mesh.system.files.datadir import ADMIN, DataDirectory
from mesh.system.limits import OpenFiles, freeze_start, tune_process
from mesh.version import meshgate_version
from protocols.rest.counters import RestCounters
from protocols.rest.http.server import GuardedRunner
from protocols.server import SocketFactory
from routing.idle import forget
from routing.steps import in_steps

logger = logging.getLogger(__name__)

WARM = ("routing.log.producing.crecords", "jinja2")     # the first produce, the first page
TICK_S = 0.05               # timers of consumers: ack timeouts and redelivery are this exact
MEMORY_S = 5.0              # free memory goes back to the machine
MAINTAIN_S = 1.0            # retention, rolling by age, compaction
CLOCK_S = 1.0               # is the wall clock where it should be?
LOG_CLOSE_MAX_S = 10.0      # beyond the stop timeout, for the last sync; a disk that hangs must not hold the process


def run_node(config_file: Path | None, data: Path | None, log_format: str, log_level: str) -> int:
    """Run until a signal says stop. Returns the exit code; raises ConfigError and StorageError before it is ready."""
    set_up_logs(log_format, log_level)
    config = load_config(config_file)
    if data is not None:
        config = msgspec.structs.replace(
            config, node=msgspec.structs.replace(config.node, data=str(data.resolve())))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)     # until the node can reload: a hangup must not end its start
    files = tune_process()
    directory = DataDirectory(Path(config.node.data))
    directory.make()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(Service(config, config_file, directory, files, overridden=data is not None).run())
    return 0


class Service:
    """One run of a node."""

    def __init__(
        self, config: Config, config_file: Path | None, data: DataDirectory, files: int, *, overridden: bool,
    ) -> None:
        """files: limit of open files.  overridden: --data was given, so a reload must not look at node.data."""
        self._config = config
        self._config_file = config_file
        self._data = data
        self._overridden = overridden
        self._files = OpenFiles(files, time.monotonic)
        self._stop = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False
        self._console: GuardedRunner | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._management: Management | None = None
        self._local = LocalSocket(data.root)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_stray)
        listeners = self._bind()
        try:
            node = await self._start(listeners)
        except BaseException:
            for listener in listeners:
                listener.stop()
            raise
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload, node)
        node.state = "ready"
        print_banner(node)
        for stream in node.store.unserved():
            logger.warning("stream %s is on disk but in no [[streams]]: its events are kept and not served", stream)
        for stream in node.store.missing():
            logger.error("stream %s was in this data directory and is missing", stream)
        logger.info("node %s is ready after %.1f s, %.2f s of CPU", node.name, node.uptime_s(), time.process_time())
        await self._stop.wait()
        await self._shut_down(node)

    # -- start ------------------------------------------------------------------------------------------------

    def _bind(self) -> list[Listener]:
        bound: list[Listener] = []
        try:
            for protocol, settings, path in self._config.listeners.placed():
                listener = Listener(
                    protocol, settings, anonymous=not self._config.proves(protocol),
                    may_accept=self._files.may_accept, path=path)
                bound.append(listener)
                listener.bind()
        except BaseException:
            for listener in bound:
                listener.stop()
            raise
        return bound

    async def _start(self, listeners: list[Listener]) -> Node:
        users, contexts = resolve_outside(self._config)
        links = resolve_links(self._config)
        node = Node(self._config, users, self._data, meshgate_version())
        if self._config.links or self._config.listeners.link is not None:
            await asyncio.to_thread(node.keys.load)         # so that no neighbour waits for it, nor the loop
        generated, password = first_admin(self._config, users, self._data)
        base = Base(self._config, users + generated, resolve_api_keys(self._config.api_keys), links)
        node.administration.start(base)
        node.router.logins.changed_at_start()
        node.listeners, node.files = listeners, self._files
        self._management = management = Management(node)
        factories = {
            "console": await self._console_factory(node, management), "link": node.links.accept,
            **{spec.name: await node.protocols[spec.name].factory() for spec in PROTOCOLS if spec.listens},
        }
        for listener, context in zip(listeners, contexts):
            await listener.open(factories[listener.protocol], context, node.router.turns)
        if any(listener.protocol == "console" for listener in listeners):
            await self._local.open(factories["console"])
        self._data.write_listening(node.name, node.listening())
        if password is not None:
            print_first_password(ADMIN, password)
        for warning in warnings_of(self._config):
            logger.warning("%s", warning)
        node.authenticator.tokens.prefetch()
        node.webhooks.start()
        node.bridges.start()
        management.start()
        freeze_start()
        warm_up(WARM)
        node.watch.watch_collections()
        node.watch.start_looking()
        self._every(node, "tick", TICK_S, lambda: node.tick(time.monotonic()))
        self._every(node, "maintain", MAINTAIN_S, node.maintain)
        self._every(node, "clock", CLOCK_S, node.watch_clock)
        memory = FreeMemory(resident_bytes, lambda: in_steps(node.router, forget(node.router)))
        self._every(node, "memory", MEMORY_S, memory.look)
        return node

    async def _console_factory(self, node: Node, management: Management) -> SocketFactory:
        """The console is guarded as the HTTP listener is."""
        self._console = runner = GuardedRunner(
            management.make_app(), self._config.protocol("http"), RestCounters(), node.router.turns)
        await runner.setup()
        assert runner.server is not None
        return runner.server

    # -- timers -----------------------------------------------------------------------------------------------

    def _every(self, node: Node, name: str, seconds: float, work: Callable[[], None]) -> None:
        """Call work again and again. An error of ours is logged; the timer goes on."""
        loop = asyncio.get_running_loop()
        due_s = time.monotonic() + seconds
        watch = node.watch

        def turn() -> None:
            nonlocal due_s
            began_s = time.monotonic()
            watch.timer(began_s - due_s, seconds)
            try:
                work()
            except Exception:
                logger.exception("timer %s failed", name)
            now_s = time.monotonic()
            node.router.turns.note(f"the timer {name}", now_s - began_s)
            due_s = now_s + seconds
            self._timers[name] = loop.call_later(seconds, turn)

        self._timers[name] = loop.call_later(seconds, turn)

    # -- signals ----------------------------------------------------------------------------------------------

    def _on_stop(self, number: int) -> None:
        if self._stop.is_set():
            logger.warning("second signal: stopping at once; what was acked is on disk")
            os._exit(128 + number)
        logger.info("%s: stopping", signal.Signals(number).name)
        self._stop.set()

    def _on_reload(self, node: Node) -> None:
        if self._reloading is not None and not self._reloading.done():
            self._reload_again = True
            return
        self._reloading = asyncio.get_running_loop().create_task(self._reload(node))

    async def _reload(self, node: Node) -> None:
        """One reload at a time; a signal that came meanwhile means one more."""
        self._reload_again = True
        while self._reload_again:
            self._reload_again = False
            try:
                await reload(node, self._config_file, self._config.node.data if self._overridden else None)
            except Exception:
                logger.exception("reload failed")

    # -- stop -------------------------------------------------------------------------------------------------

    async def _shut_down(self, node: Node) -> None:
        node.state = "stopping"
        timeout_s = self._config.node.stop_timeout_s
        threading.Thread(target=_exit_anyway, args=(timeout_s + LOG_CLOSE_MAX_S,), daemon=True).start()
        for listener in node.listeners:
            listener.stop()
        self._local.stop()
        try:
            async with asyncio.timeout(timeout_s):
                await self._say_goodbye(node)
        except TimeoutError:
            logger.warning("not everybody was gone after %.0f s", timeout_s)
        for timer in self._timers.values():
            timer.cancel()
        node.authenticator.close()
        self._data.forget_listening()
        node.usage.stop()
        node.router.close()
        write_note(self._data.root, node.clock.note())
        logger.info("node %s has stopped", node.name)

    async def _say_goodbye(self, node: Node) -> None:
        """Each protocol in its own words, at the same time."""
        goodbyes = [asyncio.ensure_future(server.shutdown()) for server in node.protocols.values()]
        await asyncio.sleep(0)                  # they have begun, so wills and last acks still go to the mesh
        node.mesh.close()
        if self._management is not None:
            await self._management.close()
        goodbyes.extend(map(asyncio.ensure_future, (
            node.webhooks.shutdown(), node.bridges.shutdown(), node.links.shutdown())))
        if self._console is not None:
            goodbyes.append(asyncio.ensure_future(self._console.cleanup()))
        for outcome in await asyncio.gather(*goodbyes, return_exceptions=True):
            if isinstance(outcome, Exception):
                logger.error("while stopping: %r", outcome)


def _exit_anyway(seconds: float) -> None:
    time.sleep(seconds)
    logger.critical("still not stopped after %.0f s: giving up; what was acked is on disk", seconds)
    os._exit(1)


def _log_stray(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An error that nobody awaited. It is ours, so with its traceback; the node goes on."""
    error = context.get("exception")
    logger.error("%s", context.get("message", "error in the event loop"), exc_info=error)
