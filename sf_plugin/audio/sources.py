"""What `--audio` can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sf_plugin.audio.files import FileSource
from sf_plugin.audio.keyboard import Keyboard, MidiFile, is_midi_file
from sf_plugin.audio.microphone import Microphone
from sf_plugin.audio.network import TcpSource
from sf_plugin.audio.pcm import PcmSource
from sf_plugin.audio.source import Source
from sf_plugin.hookspecs import RegisterSource, hookimpl


def open_file(path: str | Path) -> Source:
    """An audio file, or a MIDI file to be played.

    Raises:
        AudioError: it cannot be read.
    """
    return MidiFile(path) if is_midi_file(path) else FileSource(path)


BUILT_IN: dict[str, Callable[[str], Source]] = {
    "file": open_file,
    "mic": Microphone,
    "midi": Keyboard,
    "pcm": PcmSource.from_spec,
    "tcp": TcpSource.from_spec,
}
HELP = {
    "file": "an audio or MIDI file",
    "mic": "a microphone by part of its name",
    "midi": "a MIDI keyboard by part of its port's name",
    "pcm": "raw standard input: s16le or f32le,RATE,CHANNELS",
    "tcp": "raw samples from whoever connects: [HOST:]PORT,s16le or f32le,RATE,CHANNELS",
}


@hookimpl
def register_sources(register: RegisterSource) -> None:
    """Files, microphones, MIDI keyboards, standard input and the network."""
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
    return open_file(spec)
