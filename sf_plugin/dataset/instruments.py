"""The instruments that performances are rendered on, and the one that training never hears.

Debian's soundfonts play through fluidsynth; the Salamander grand by Alexander Holm
(CC BY 3.0) comes as single notes from npm's registry and plays through `salamander`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sf_plugin.errors import ScoreFollowerError

SOUNDFONTS = {
    "fluid": Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    "timgm": Path("/usr/share/sounds/sf2/TimGM6mb.sf2"),
    "musescore": Path("/usr/share/sounds/sf3/MuseScore_General.sf3"),
}
"""Debian's packages fluid-soundfont-gm, timgm6mb-soundfont, musescore-general-soundfont."""


class InstrumentError(ScoreFollowerError):
    """An instrument that is not known, not installed or cannot be fetched."""


@dataclass(frozen=True)
class Instrument:
    """A General MIDI program (from 0) of a soundfont; two have neither.

    "salamander" are recordings, "keyboard" is how the events of a MIDI keyboard are heard.
    """

    name: str
    soundfont: Path | None = None
    program: int = 0


INSTRUMENTS = {
    instrument.name: instrument
    for instrument in (
        *(
            Instrument(f"{font}-{kind}", SOUNDFONTS[font], program)
            for font, kind, program in (
                ("fluid", "grand", 0),
                ("fluid", "bright", 1),
                ("fluid", "harpsichord", 6),
                ("timgm", "grand", 0),
                ("timgm", "bright", 1),
                ("timgm", "harpsichord", 6),
                ("musescore", "grand", 0),
                ("musescore", "bright", 1),
                ("musescore", "honky-tonk", 3),
                ("musescore", "electric", 4),
            )
        ),
        Instrument("salamander"),
        Instrument("keyboard"),
    )
}
HELD_OUT_INSTRUMENTS = ("salamander", "keyboard")
TRAINING_INSTRUMENTS = tuple(name for name in INSTRUMENTS if name not in HELD_OUT_INSTRUMENTS)


def instrument_named(name: str) -> Instrument:
    """The instrument of that name.

    Raises:
        InstrumentError: there is none.
    """
    try:
        return INSTRUMENTS[name]
    except KeyError:
        raise InstrumentError(
            f"{name}: no such instrument; choose one of {', '.join(INSTRUMENTS)}"
        ) from None


# the Salamander grand

SALAMANDER_VERSION = "1.0.5"
SALAMANDER_PACKAGES = {
    "piano-velocity2": "gUvqo2FDBIZoCYzc3/oAoWAzJiGefEfXTrY0NfoHSDosEo7L6MIGvVfr9pXKGJ5wYwFZxaJvVHjKtkAKVYDrMg==",  # noqa: E501
    "piano-velocity5": "9mopzvI/Vh4N0ZZ3yItCn+943xa8a4dKxmEnurGNrOtolsrOj1mCUGgUELFjFn5y1+BviT6cpnw19SIjV2HuqQ==",  # noqa: E501
    "piano-velocity8": "/FNxSkeYe7TqzAb3/RynUvMoKqIA8/AQ8Riiy+v7h2PZufOZ7JU/e0SLGmjoYIIc/9Uy68Fi8jStf9V6s17YrA==",  # noqa: E501
    "piano-velocity11": "XGPS5yv7bzTUSlHFeWD6aFjwAHbF+DcdHUsc4Ztb9ulOIy9eqsvAXzLnIwiQQiBzLM4amXHGqdgr8imqOkenrQ==",  # noqa: E501
    "piano-velocity14": "2sfwNUnTr7IM/LzDbOoegzeH9xYfXjQUe1ccZXGKy4IW1vbKWSXP1FZJ3JR2QZzG2vr9K9Gm2y0IyAx7eg28qQ==",  # noqa: E501
    "piano-release": "IGZ9nUEzD01V3k2kmQtobwTkTSXtpW1PBTGs7jsvwHm2Y/SY1ylMmWKZVnFV3vLXnV1mVOxEcReAQZJBW52R1A==",  # noqa: E501
}
"""Package of the scope @audio-samples and its tarball's SHA-512, as the registry states it."""

FETCH = "scorefollow dataset fetch"


def sample_cache() -> Path:
    """Where fetched samples are kept: the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "scorefollow"


def salamander_folder(cache: Path | None = None) -> Path:
    """Where the Salamander's notes lie, or would lie, in `cache`."""
    return (cache or sample_cache()) / f"salamander-{SALAMANDER_VERSION}"


def fetch_salamander(
    cache: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Fetch the Salamander's notes (25 MB) once; give the folder that they lie in.

    npm's registry may be another one: `npm_config_registry` names it, as for npm.
    `progress` hears how many packages of how many are there.

    Raises:
        InstrumentError: the registry cannot be reached, a package is not what it should
            be, or the cache cannot be written.
    """
    folder = salamander_folder(cache)
    for done, (package, digest) in enumerate(SALAMANDER_PACKAGES.items()):
        progress(done, len(SALAMANDER_PACKAGES))
        if not (folder / package).is_dir():
            _unpack(_download(package, digest), folder / package)
    progress(len(SALAMANDER_PACKAGES), len(SALAMANDER_PACKAGES))
    return folder


def registry() -> str:
    """npm's registry, without the last slash."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    return "https://registry.npmjs.org"


def _download(package: str, digest: str) -> bytes:
    url = f"{registry()}/@audio-samples/{package}/-/{package}-{SALAMANDER_VERSION}.tgz"
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InstrumentError(f"{url}: not a web address; set npm_config_registry to one")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            data: bytes = answer.read()
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise InstrumentError(
            f"{url}: cannot be fetched ({reason}); try again online, or set "
            "npm_config_registry to a registry within reach"
        ) from None
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != digest:
        raise InstrumentError(f"{url}: not the expected file (its SHA-512 differs); fetch again")
    return data


def _unpack(tarball: bytes, folder: Path) -> None:
    """The package's sounds and licence into `folder`, all or nothing."""
    partial = folder.with_name(folder.name + f".partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                file = archive.extractfile(member) if member.isfile() else None
                if file and (path.suffix == ".ogg" or path.name in ("LICENSE", "README.md")):
                    (partial / path.name).write_bytes(file.read())
        if not folder.is_dir():
            partial.rename(folder)
    except OSError as error:
        raise InstrumentError(
            f"{folder}: cannot be written ({error.strerror}); choose another cache folder"
        ) from None
