"""A follower that knows the notes: online time warping of chroma.

pip install ./examples/online_time_warping
scorefollow follow sonata.musicxml --audio take.wav --follower time-warping
"""

from __future__ import annotations

from online_time_warping.follower import TimeWarping
from sf_plugin import hookimpl
from sf_plugin.hookspecs import RegisterFollower

__all__ = ["TimeWarping"]


@hookimpl
def register_followers(register: RegisterFollower) -> None:
    register("time-warping", TimeWarping, help="warps the sound to that of the score's notes")
