"""Certificates for HTTPS, without which browsers elsewhere do not lend their microphone."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

from sf_adapters.stand.door import own_address
from sf_plugin.errors import SinkError

DAYS = 365


def certificate_of(spec: str) -> tuple[Path, Path]:
    """The files of `CERT,KEY`; where that is empty, of a certificate of our own.

    Raises:
        SinkError: they cannot be read, or openssl is missing.
    """
    if not spec:
        return own_certificate(_folder())
    cert, comma, key = spec.partition(",")
    if not comma:
        raise SinkError(f"--tls {spec!r}: write CERT,KEY: two files, or neither")
    tls_context(Path(cert), Path(key))
    return Path(cert), Path(key)


def tls_context(cert: Path, key: Path) -> ssl.SSLContext:
    """For a server.

    Raises:
        SinkError: they cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SinkError(f"--tls {cert},{key}: no certificate and its key: {reason}") from None
    return context


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine's names and addresses, and its key.

    They are kept in the folder, so that a browser needs to be told only once to trust
    them, until the address changes.

    Raises:
        SinkError: openssl is missing or fails, or the folder cannot be written.
    """
    name = f"stand-{own_address()}".replace(":", "-")
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    if cert.is_file() and key.is_file() and _is_valid(cert):
        return cert, key
    if shutil.which("openssl") is None:
        raise SinkError(
            "--tls: openssl is missing: install it (Debian: apt install openssl) or give CERT,KEY"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = key.with_name(key.name + ".part")
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise SinkError(f"--tls: {folder}: cannot be written: {error.strerror}") from None
    names = f"DNS:localhost,DNS:{socket.gethostname()},IP:127.0.0.1,{_as_name(own_address())}"
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", str(DAYS), "-subj", "/CN=scorefollow stand", "-addext",
        f"subjectAltName={names}", "-addext", "extendedKeyUsage=serverAuth",
        "-keyout", str(part), "-out", str(cert),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        part.unlink(missing_ok=True)
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise SinkError(f"--tls: openssl makes no certificate: {last}: give CERT,KEY")
    part.replace(key)
    return cert, key


def _is_valid(cert: Path) -> bool:
    """Whether it is good for another day."""
    command = ["openssl", "x509", "-checkend", "86400", "-noout", "-in", str(cert)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return True


def _as_name(address: str) -> str:
    return f"IP:{address}" if address[:1].isdigit() or ":" in address else f"DNS:{address}"


def _folder() -> Path:
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "scorefollow"


def _no_password() -> str:
    raise ValueError("the key has a password: give one without")
