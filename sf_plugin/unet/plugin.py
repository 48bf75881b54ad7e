"""The image U-Net registers itself like any other follower."""

from __future__ import annotations

from sf_plugin.followers import Follower
from sf_plugin.hookspecs import RegisterFollower, hookimpl


def make_unet() -> Follower:
    from sf_plugin.unet.follower import UNetFollower

    return UNetFollower()


@hookimpl
def register_followers(register: RegisterFollower) -> None:
    """`--follower unet`, the default."""
    register("unet", make_unet, help="the image U-Net over the whole document")
