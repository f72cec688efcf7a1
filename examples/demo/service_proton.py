"""The same as service.js, on Qpid proton: service_proton.py URL ADDRESS_TO_READ ADDRESS_TO_ANSWER."""
from __future__ import annotations

import sys

from proton import Message
from proton.utils import BlockingConnection

url, reads, answers = sys.argv[1:]
connection = BlockingConnection(url)
receiver, sender = connection.create_receiver(reads), connection.create_sender(answers)
print("ready", flush=True)
message = receiver.receive(timeout=30)
body = message.body                                 # bytes, as other protocols send them
print(bytes(body).decode() if isinstance(body, (bytes, memoryview)) else body, flush=True)
sender.send(Message(body="replace the tool", durable=True))        # raises when it is not accepted
print("accepted", flush=True)
receiver.accept()
connection.close()
