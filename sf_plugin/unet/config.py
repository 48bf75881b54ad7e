"""What a network is; saved with its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sf_plugin.audio.spectrogram import PAPER, SpectrogramConfig

BLOCKS = "ABCDEFGHI"


@dataclass(frozen=True)
class UNetConfig:
    """The image U-Net's shape.

    Attributes:
        page_width: pixels a page is read at.
        channels: of blocks A to E; F to I mirror D to A.
        strides: (vertical, horizontal) on entering A to E.
        pool: enter a block by max pooling, as published, rather than by a strided
            convolution.
        groups: of the group norms; 1 as published.
        film: the blocks the audio conditions; all before the first of them are
            computed once per page.
        readout: "pixels" ends in block I over the page, as published; "strip"
            collapses the systems found on the page into one row of cells, and
            block I conditions those.
        cells: channels of the strip.
        row_memory: a bidirectional LSTM along the rows of block E.
        audio: "window" encodes the last `context` frames at once, as published;
            "causal" streams through dilated convolutions.
        context: frames heard by the window encoder.
        audio_channels: width of the audio encoder.
        audio_memory: units of its recurrent layer.
        pitch_rows: channels of the rows that the causal encoder has for every pitch.
        spectrogram: the frames it hears.
    """

    page_width: int = 848
    channels: tuple[int, int, int, int, int] = (16, 48, 64, 96, 128)
    strides: tuple[tuple[int, int], ...] = ((2, 2), (2, 2), (2, 2), (2, 2), (2, 1))
    pool: bool = False
    groups: int = 8
    film: str = "I"
    readout: Literal["pixels", "strip"] = "strip"
    cells: int = 128
    row_memory: bool = True
    audio: Literal["window", "causal"] = "causal"
    context: int = 40
    audio_channels: int = 192
    audio_memory: int = 192
    pitch_rows: int = 32
    spectrogram: SpectrogramConfig = field(default_factory=SpectrogramConfig)

    def __post_init__(self) -> None:
        if not self.film or any(block not in BLOCKS for block in self.film):
            raise ValueError(f"film={self.film!r} names blocks other than {BLOCKS}")
        if self.readout == "strip" and self.film != "I":
            raise ValueError("the strip readout conditions block I only")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> UNetConfig:
        return cls(
            **{
                **data,
                "channels": tuple(data["channels"]),
                "strides": tuple(tuple(stride) for stride in data["strides"]),
                "spectrogram": SpectrogramConfig.from_dict(data["spectrogram"]),
            }
        )


CUNET = UNetConfig(
    page_width=278,
    channels=(8, 16, 32, 64, 128),
    strides=((1, 1), (2, 2), (2, 2), (2, 2), (2, 2)),
    pool=True,
    groups=1,
    film="BCDEFGH",
    readout="pixels",
    row_memory=False,
    audio="window",
    audio_channels=32,
    audio_memory=128,
    spectrogram=PAPER,
)
"""The setting of Henkel, Kelz and Widmer (ISMIR 2020): the page at a third of 1181 x 835."""

DEFAULT = UNetConfig()
CONFIGS = {"default": DEFAULT, "cunet": CUNET}
