"""Follow a score that music21 knows, and print each measure as it begins.

python music21_follow.py bwv66.6 take.wav
python music21_follow.py sonata.musicxml mic:piano
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from music21 import converter, corpus

from sf_adapters.music21 import follow
from sf_plugin import ScoreFollowerError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("score", help="a file, or a name in music21's corpus")
    parser.add_argument("audio", help="a file, mic:NAME or - for raw standard input")
    parser.add_argument("--follower", default="unet")
    options = parser.parse_args()

    known = Path(options.score).exists()
    stream = converter.parse(options.score) if known else corpus.parse(options.score)
    now = None
    for place in follow(stream, options.audio, follower=options.follower):
        if place.measure is not None and place.measure is not now:
            now = place.measure
            pitches = " ".join(pitch.nameWithOctave for pitch in now.pitches)
            offset = "?" if place.offset is None else f"{place.offset:g}"
            time = f"{place.position.time:7.2f} s"
            print(f"{time}  measure {now.number}  offset {offset}  {pitches}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except ScoreFollowerError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass
