"""A receiver of webhooks with a journal. Own process, so that it outlives the node.

It fails at random, before and after it has written down what came: what it answered with 204 stands in the journal.
The place in the log is taken from webhook-id, a repeat is one that Webhook-Attempt says is one.
"""
from __future__ import annotations

import random
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.faults.client import arguments
from tests.support.checker import Place
from tests.support.checker_journal import Journal


class Receiver(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, journal: Journal, failures: float) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.journal = journal
        self.failures = failures
        self.lock = threading.Lock()
        self.seen: set[tuple[str, int, int]] = set()
        self.random = random.Random(port)

    def taken(self, body: bytes, message_id: str, attempt: int) -> bool:
        """Write it down. False: say that it failed, maybe after it was taken; then it comes again."""
        stream, partition, offset = message_id.partition("-")[2].rsplit("-", 2)
        with self.lock:
            luck = self.random.random()
            if luck < self.failures / 2:
                return False
            self.seen.add((stream, int(partition), int(offset)))
            self.journal.got(body, attempt > 1, Place(stream, int(partition), int(offset)))
            self.journal.flush()
            return luck >= self.failures


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        good = self.server.taken(body, self.headers["webhook-id"], int(self.headers["Webhook-Attempt"]))
        self.send_response(204 if good else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    options = arguments("webhook receiver", failures=0.1)
    receiver = Receiver(options.port, Journal(options.journal), options.failures)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    for line in sys.stdin:
        word = line.strip()
        if word == "count":
            with receiver.lock:
                receiver.journal.flush()
                print(f"count {len(receiver.seen)}", flush=True)
        elif word in ("pause", "resume"):
            print(f"{word}d", flush=True)
        elif word == "stop":
            break
    with receiver.lock:
        receiver.journal.close()
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
