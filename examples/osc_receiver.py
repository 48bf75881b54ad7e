"""Print what `scorefollow follow SCORE --audio FILE --osc 127.0.0.1:9000` sends.

python osc_receiver.py 9000
"""

from __future__ import annotations

import sys
from contextlib import suppress

from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import BlockingOSCUDPServer


def on_measure(address: str, measure: int, label: str, pass_: int) -> None:
    print(f"measure {measure} ({label or 'no number'}), pass {pass_}", flush=True)


class Pages:
    """Which page is shown, also where the packet that told of it was lost."""

    shown = 0

    def on_page(self, address: str, page: int, lead: float) -> None:
        self.shown = page
        print(f"turn to page {page}: its music begins in {lead:.1f} s", flush=True)

    def on_status(self, address: str, time: float, state: str, page: int, *more: object) -> None:
        if page != self.shown:
            self.shown = page
            print(f"page {page} is shown", flush=True)


def on_other(address: str, *arguments: object) -> None:
    print(address, *arguments, flush=True)


def main() -> None:
    dispatcher = Dispatcher()
    dispatcher.map("/sf/measure", on_measure)
    pages = Pages()
    dispatcher.map("/sf/page", pages.on_page)
    dispatcher.map("/sf/status", pages.on_status)
    dispatcher.map("/sf/position", lambda address, *arguments: None)
    dispatcher.set_default_handler(on_other)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    with BlockingOSCUDPServer(("127.0.0.1", port), dispatcher) as server:
        print(f"listening on port {server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
