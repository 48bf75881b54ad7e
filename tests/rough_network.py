"""A network between two UDP sockets that loses, delays, reorders and doubles packets."""

from __future__ import annotations

import heapq
import random
import select
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Self


class RoughNetwork:
    """Relays both ways between whoever sends to `port` and a port of this computer.

    Args:
        to: the port that it leads to.
        loss, twice: shares of packets that are lost, and that come twice.
        delay: seconds that a packet takes at most; those that take less overtake.

    Attributes:
        lost: packets so far.
    """

    def __init__(
        self, to: int, *, loss: float, twice: float = 0.1, delay: float = 0.1, seed: int = 0
    ) -> None:
        self.lost = 0
        self._near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._near.bind(("127.0.0.1", 0))
        self.port = self._near.getsockname()[1]
        self._far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._far.bind(("127.0.0.1", 0))
        self._to = "127.0.0.1", to
        self._loss, self._twice, self._delay = loss, twice, delay
        self._chance = random.Random(seed)
        self._sender: Any = None
        self._due: list[tuple[float, int, socket.socket, bytes, Any]] = []
        self._count = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._near.close()
        self._far.close()

    def _work(self) -> None:
        while not self._ended.is_set():
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, out, packet, address = heapq.heappop(self._due)
                with suppress(OSError):
                    out.sendto(packet, address)
            wait = min(0.05, self._due[0][0] - now) if self._due else 0.05
            for there in select.select([self._near, self._far], [], [], wait)[0]:
                packet, sender = there.recvfrom(65536)
                if there is self._near:
                    self._sender = sender
                    self._take(self._far, packet, self._to)
                elif self._sender is not None:
                    self._take(self._near, packet, self._sender)

    def _take(self, out: socket.socket, packet: bytes, address: Any) -> None:
        if self._chance.random() < self._loss:
            self.lost += 1
            return
        for _ in range(1 + (self._chance.random() < self._twice)):
            self._count += 1
            due = time.monotonic() + self._delay * self._chance.random()
            heapq.heappush(self._due, (due, self._count, out, packet, address))
