"""Messages over a stream socket: pickled tuples of plain values, each with its length.

What comes from users travels inside of them as bytes, pickled by itself, so that
reading a message runs no code of theirs.

`Channel.send` may be called by any thread, one message after another; `receive` and
`available` by one thread.
"""

from __future__ import annotations

import pickle
import socket
import struct
from _thread import allocate_lock
from collections.abc import Iterator
from typing import Any

_HEAD = struct.Struct("<Q")
_CHUNK = 1 << 18


class Channel:
    """One end of a conversation."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._sending = allocate_lock()
        self._received = bytearray()
        self.open = True  # until closed here, as when the other end is gone

    def fileno(self) -> int:
        """Return what `select` waits for."""
        return self._socket.fileno()

    def send(self, *message: Any) -> None:
        """Send a message. Waits while the other end does not read.

        Raises:
            OSError: the other end is gone.
        """
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        with self._sending:
            self._socket.sendall(_HEAD.pack(len(data)) + data)

    def receive(self) -> tuple[Any, ...] | None:
        """Wait for a message; None when the other end is gone."""
        while True:
            for message in self._whole():
                return message
            if not self._read(0):
                return None

    def available(self, *, everything: bool = False) -> Iterator[tuple[Any, ...]]:
        """Yield the messages that are there, or the first of them, without waiting.

        Raises:
            EOFError: the other end is gone, and all that it sent was yielded.
        """
        yield from self._whole()
        while True:
            try:
                alive = self._read(socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield from self._whole()
            if not alive:
                raise EOFError
            if not everything:
                return

    def _read(self, flags: int) -> bool:
        try:
            data = self._socket.recv(_CHUNK, flags)
        except ConnectionError:
            return False
        self._received += data
        return bool(data)

    def _whole(self) -> Iterator[tuple[Any, ...]]:
        while len(self._received) >= _HEAD.size:
            (length,) = _HEAD.unpack_from(self._received)
            end = _HEAD.size + length
            if len(self._received) < end:
                return
            data = bytes(memoryview(self._received)[_HEAD.size : end])
            del self._received[:end]
            yield pickle.loads(data)

    def close(self) -> None:
        """Hang up."""
        self.open = False
        self._socket.close()
