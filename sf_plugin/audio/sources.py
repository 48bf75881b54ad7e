"""What `--audio` can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sf_plugin.audio.files import FileSource
from sf_plugin.audio.microphone import Microphone
from sf_plugin.audio.pcm import PcmSource
from sf_plugin.audio.source import Source
from sf_plugin.hookspecs import RegisterSource, hookimpl

BUILT_IN: dict[str, Callable[[str], Source]] = {
    "file": FileSource,
    "mic": Microphone,
    "pcm": PcmSource.from_spec,
}
HELP = {
    "file": "an audio file",
    "mic": "a microphone by part of its name",
    "pcm": "raw standard input: s16le or f32le,RATE,CHANNELS",
}


@hookimpl
def register_sources(register: RegisterSource) -> None:
    """Files, microphones and standard input."""
    for scheme, factory in BUILT_IN.items():
        register(scheme, factory, help=HELP[scheme])


def open_source(
    spec: str | Path | Source, schemes: Mapping[str, Callable[[str], Source]] = BUILT_IN
) -> Source:
    """A file by name, `-` for raw standard input, or `SCHEME:rest`.

    A file that exists under the whole name wins over a scheme.

    Raises:
        AudioError: it cannot be read.
    """
    if isinstance(spec, Source):
        return spec
    if spec == "-":
        return schemes["pcm"]("")
    scheme, colon, rest = str(spec).partition(":")
    if isinstance(spec, str) and colon and scheme in schemes and not Path(spec).exists():
        return schemes[scheme](rest)
    return FileSource(spec)
