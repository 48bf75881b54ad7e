"""A music stand for browsers: `--serve [HOST:]PORT`.

Shows the pages, where the music is and how sure that is, turns pages, and lets a viewer
say where the music is.  `protocol.md` beside this file says what is spoken.

The stand is for this machine alone unless HOST is given; then whoever wants to see it
needs the token that is printed with its address (or SCOREFOLLOW_TOKEN).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sf_adapters.stand.door import parse_address
from sf_plugin.controls import Controls
from sf_plugin.hookspecs import RegisterSink, hookimpl
from sf_plugin.positions import Event
from sf_plugin.score.layout import Layout
from sf_plugin.score.model import Score
from sf_plugin.sinks import Sink

if TYPE_CHECKING:
    from sf_adapters.stand.process import ServerProcess


@hookimpl
def register_sinks(register: RegisterSink) -> None:
    """`--serve`."""
    register(
        "serve",
        Stand,
        help="a music stand for browsers at [HOST:]PORT (default 127.0.0.1:8765)",
        metavar="[ADDRESS]",
    )


class Stand(Sink):
    """Tells a session to browsers, and their wishes to the session.

    Args:
        address: `[HOST:]PORT`; port 0 takes a free one.
        files: of the score, where the score itself does not know them: pages are drawn
            anew from these as large as a screen wants them, and corrections of the
            layout are kept beside them.
        server: one that runs already and outlives the session; `address` is then not used.

    Raises:
        SinkError: the address is written in another way.
    """

    def __init__(
        self, address: str = "", *, files: Sequence[Path] = (), server: ServerProcess | None = None
    ) -> None:
        self._address = parse_address(address)
        self._files = tuple(files)
        self._lent = server is not None
        self._controls: Controls | None = None
        self.server = server

    def attach(self, controls: Controls) -> None:
        self._controls = controls

    def open(self, score: Score, layout: Layout) -> None:
        from sf_adapters.stand.process import ServerProcess

        if self.server is None:
            files = self._files or score.files
            self.server = ServerProcess(self._address, score, files)
            self.server.start()
            self.server.invite()
        self.server.begin(score, layout, self._controls or Controls(len(score.pages)))

    def extend(self, layout: Layout) -> None:
        if self.server is not None:
            self.server.extend(layout)

    def emit(self, event: Event) -> None:
        if self.server is not None:
            self.server.tell(event)

    def close(self) -> None:
        server = self.server
        if server is None:
            return
        server.end()
        if not self._lent:
            self.server = None
            server.close()
