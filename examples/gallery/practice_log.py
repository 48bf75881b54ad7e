# %% [markdown]
# # A practice log
#
# What was played when, and how often? The events of a session answer that.

# %%
import tempfile
from collections import Counter
from itertools import groupby
from pathlib import Path

import mido
from music21 import corpus
from performing import perform

import sf_plugin
from sf_plugin.positions import Position, event_from_json

folder = Path(tempfile.mkdtemp(prefix="practice-"))
sonata = corpus.parse("mozart/k545/movement1_exposition")

# %% [markdown]
# Somebody practises: measures 1 to 6, then twice 5 and 6, then 1 to 8, with a pause of two seconds
# after each.

# %%
PLAN = [(1, 6), (5, 6), (5, 6), (1, 8)]
PAUSE = 2.0
session = mido.MidiFile(ticks_per_beat=500)
track = session.add_track()
waited = 0.0
for number, (first, last) in enumerate(PLAN):
    part = perform(sonata.measures(first, last), lambda _: 120, folder / f"{number}.mid")
    for message in mido.MidiFile(part):
        waited += message.time
        if not message.is_meta:
            track.append(message.copy(time=round(1000 * waited)))
            waited = 0.0
    waited += PAUSE
session.save(folder / "session.mid")

# %% [markdown]
# `scorefollow align sonata.musicxml --audio session.flac --out session.jsonl` writes such a file of
# a recording; `scorefollow follow --out` writes one while you play, less exactly, as it does not
# know what comes.

# %%
kept = folder / "session.jsonl"
with kept.open("w", encoding="utf-8") as file:
    for event in sf_plugin.align(sonata, folder / "session.mid").events:
        print(event.to_json(), file=file)

# %% [markdown]
# ## The log
#
# In a pause the place waits at the next notes. So a measure was played where half of the places at
# which notes begin in it were passed. Measures played one after the other are a stretch.

# %%
events = [event_from_json(line) for line in kept.read_text(encoding="utf-8").splitlines()]
known = [
    event
    for event in events
    if isinstance(event, Position) and event.measure and event.state in ("tracking", "unsure")
]
measures = zip(*(part.getElementsByClass("Measure") for part in sonata.parts), strict=True)
onsets = [{note.offset for bar in bars for note in bar.flatten().notes} for bars in measures]
visits = []
for (measure, _), stay in groupby(known, key=lambda here: (here.measure, here.pass_)):
    here = list(stay)
    if 2 * len({place.x for place in here}) >= len(onsets[measure - 1]):
        visits.append((measure, here[0].time, here[-1].time))

stretches = []
for visit in visits:
    if stretches and visit[0] == stretches[-1][-1][0] + 1:
        stretches[-1].append(visit)
    else:
        stretches.append([visit])
for stretch in stretches:
    seconds = stretch[-1][2] - stretch[0][1]
    print(f"{stretch[0][1]:6.1f} s  measures {stretch[0][0]} to {stretch[-1][0]}  {seconds:5.1f} s")

# %%
times = Counter(measure for measure, _, _ in visits)
for measure in range(1, len(onsets) + 1):
    print(f"measure {measure:2}  {'#' * times[measure]}")
