"""A byte stream → request frames, of bounded length. Sans-IO. Used by connection.py."""
from __future__ import annotations

from protocols.kafka.codec.errors import MalformedRequest
from protocols.kafka.codec.header import LENGTH_BYTES, frame_length
from protocols.transport.stranger import looks_like


class Splitter:
    """Keeps at most one incomplete frame: what has come of it, and no room for what it claims."""

    __slots__ = ("_kept", "_kept_bytes", "_wanted")

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._wanted = 0            # bytes of the frame that is begun, its length included; 0: not known yet

    @property
    def kept_bytes(self) -> int:
        return self._kept_bytes

    @property
    def wanted_bytes(self) -> int:
        """What the frame that is begun has in all; 0 when none is, or it is not known."""
        return self._wanted

    def feed(self, data: bytes, bytes_max: int) -> list[bytes]:
        """The frames that are complete now, without their lengths. Raises MalformedRequest for a length that is
        negative or above bytes_max.
        """
        frames: list[bytes] = []
        at = 0
        if self._kept:
            at = self._go_on(data, bytes_max, frames)
        size = len(data)
        while size - at >= LENGTH_BYTES:
            end = at + LENGTH_BYTES + _checked(data[at:at + LENGTH_BYTES], bytes_max)
            if end > size:
                self._wanted = end - at
                break
            frames.append(data[at + LENGTH_BYTES:end])
            at = end
        if at < size:
            self._kept.append(data[at:] if at else data)
            self._kept_bytes += size - at
        return frames

    def _go_on(self, data: bytes, bytes_max: int, frames: list[bytes]) -> int:
        """Take what the frame that is begun still needs. Returns how much of data that was."""
        at = 0
        if not self._wanted:
            at = min(LENGTH_BYTES - self._kept_bytes, len(data))
            self._keep(data[:at])
            if self._kept_bytes < LENGTH_BYTES:
                return at
            self._kept = [b"".join(self._kept)]
            self._wanted = LENGTH_BYTES + _checked(self._kept[0], bytes_max)
        more = min(self._wanted - self._kept_bytes, len(data) - at)
        self._keep(data[at:at + more])
        if self._kept_bytes == self._wanted:
            frames.append(b"".join(self._kept)[LENGTH_BYTES:])
            self._kept, self._kept_bytes, self._wanted = [], 0, 0
        return at + more

    def _keep(self, data: bytes) -> None:
        if data:
            self._kept.append(data)
            self._kept_bytes += len(data)


def _checked(prefix: bytes, bytes_max: int) -> int:
    length = frame_length(prefix)
    if not 0 <= length <= bytes_max:
        raise MalformedRequest(f"a request of {length} bytes, at most {bytes_max} are taken{looks_like(prefix)}")
    return length
