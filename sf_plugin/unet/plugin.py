"""The image U-Net registers itself like any other follower."""

from __future__ import annotations

from pathlib import Path

from sf_plugin.followers import Follower
from sf_plugin.hookspecs import RegisterFollower, hookimpl


def make_unet(weights: Path | None = None) -> Follower:
    """With weights of one's own, the follower that they are for."""
    from sf_plugin.unet.follower import UNetFollower
    from sf_plugin.unet.pixels import PixelFollower
    from sf_plugin.unet.weights import load_weights

    if weights is None:
        return UNetFollower()
    pixels = load_weights(weights).config.readout == "pixels"
    return PixelFollower(weights) if pixels else UNetFollower(weights)


@hookimpl
def register_followers(register: RegisterFollower) -> None:
    """`--follower unet`, the default."""
    register("unet", make_unet, help="the image U-Net over the whole document")
