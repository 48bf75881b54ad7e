# %% [markdown]
# # A Bach chorale, as it was sung
#
# A chorale from music21's corpus is performed with phrasing of its own, followed note by note, and
# aligned: its stream then says when each measure and note was heard, and in which tempo.

# %%
import math
import tempfile
from pathlib import Path

import numpy as np
from music21 import converter, corpus
from performing import perform

from sf_adapters.music21 import align, alignment_of, follow, register

folder = Path(tempfile.mkdtemp(prefix="chorale-"))
chorale = corpus.parse("bwv66.6")


# %% [markdown]
# The performance: each phrase is a little faster in its middle, and the end slows down. A recording
# of your own (`"take.wav"`, or `"mic:USB"` to follow it live) takes its place below.


# %%
def tempo_at(offset: float) -> float:
    phrase = math.sin(math.pi * (offset % 8) / 8)
    return (88 + 16 * phrase) * (1 if offset < 33 else 0.75)


take = perform(chorale, tempo_at, folder / "take.mid")

# %% [markdown]
# ## Following
#
# Every position, forty a second, comes with the measure, the beat, the offset, and the notes,
# chords and rests of the stream that sound.

# %%
before = None
for place in follow(chorale, take):
    now = place.sounding
    if place.measure is not None and now and now != before:
        names = [getattr(note, "nameWithOctave", note.name) for note in now]
        time = f"{place.position.time:6.2f} s"
        print(
            f"{time}  measure {place.measure.number:2}  beat {place.beat:4.2f}  {' '.join(names)}"
        )
        before = now

# %% [markdown]
# ## Aligning
#
# Knowing all of the recording, the times are more exact. They are in the `editorial` of a copy of
# the stream.

# %%
alignment = align(chorale, take)
soprano = alignment.stream.parts[0]
for note in soprano.recurse().notes[:6]:
    start, end = note.editorial.sf_time
    print(f"{note.nameWithOctave:4} {start:6.2f} to {end:6.2f} s")

# %% [markdown]
# The tempo map has a line a measure. `with_tempos` puts it into a copy of the stream, which then
# plays as it was performed.

# %%
for point in alignment.tempo_map:
    print(f"measure {point.measure:2}  from {point.time:6.2f} s  {point.tempo:6.1f} a minute")
played = alignment.with_tempos()
print(played.write("midi", folder / "as-played.mid"))

# %% [markdown]
# ## Keeping and showing
#
# music21 learns to write and read alignments. `show("scorefollow")` opens the report: the pages
# with the way through them, and the tempo.

# %%
register()
kept = alignment.stream.write("scorefollow", folder / "chorale.sfalign")
again = alignment_of(converter.parse(kept))
print(again.tempo_map == alignment.tempo_map)
print(alignment.stream.write("scorefollow.html", folder / "chorale.html"))

# %% [markdown]
# ## How exact is it?
#
# This performance was made here, so its times are known.


# %%
clock = np.cumsum([0.0, *(60 / tempo_at(offset) for offset in range(37))])


def true_time(offset: float) -> float:
    return float(np.interp(offset, np.arange(38), clock))


notes = alignment.stream.recurse().notes
wrong = [
    abs(note.editorial.sf_time[0] - true_time(note.getOffsetInHierarchy(alignment.stream)))
    for note in notes
]
print(f"notes     {np.median(wrong):.3f} s off (median), {np.percentile(wrong, 95):.3f} s (95 %)")
wrong = [
    abs(point.tempo * (true_time(point.offset + point.quarters) - true_time(point.offset)))
    / (60 * point.quarters)
    - 1
    for point in alignment.tempo_map
]
print(f"tempo     {np.median(np.abs(wrong)):.1%} off (median)")
wrong = []
for beat in alignment.beats:
    if beat.deviation is not None and beat.beat > 1:
        first = beat.offset - beat.beat + 1
        even = (true_time(first + 4) - true_time(first)) / 4
        late = (true_time(beat.offset) - true_time(first) - (beat.beat - 1) * even) / even
        wrong.append(abs(beat.deviation - late))
print(f"deviation {np.median(wrong):.3f} beats off (median)")
