# %% [markdown]
# # A Mozart sonata from a scan
#
# The pages are a scanned PDF; the notes are music21's. The follower looks at the pages only. The
# stream beside them names what it finds: measures, beats, and the notes that sound.

# %%
import tempfile
from pathlib import Path

import numpy as np
from music21 import corpus
from performing import perform
from PIL import Image

import sf_plugin
from sf_adapters.music21 import align, follow
from sf_plugin.dataset.paper import PAPERS, spoil

folder = Path(tempfile.mkdtemp(prefix="sonata-"))
sonata = corpus.parse("mozart/k545/movement1_exposition")

# %% [markdown]
# There is no scanner here, so the pages are engraved and then made worse as a flat-bed scanner
# would: skewed, uneven, noisy, compressed. A real scan takes the place of `scan.pdf`.

# %%
rng = np.random.default_rng(5)
engraved = sf_plugin.load_score(sonata).pages
pages = [Image.fromarray(spoil(page, rng, PAPERS["clean scan"])[0]) for page in engraved]
scan = folder / "scan.pdf"
pages[0].save(scan, save_all=True, append_images=pages[1:])

# %%
take = perform(sonata, lambda offset: 132 - 12 * (offset % 16 >= 12), folder / "take.mid")

# %% [markdown]
# ## Following

# %%
measure = None
for place in follow(sonata, take, scan=scan):
    if place.measure is not None and place.measure is not measure:
        measure = place.measure
        here = place.position
        print(
            f"{here.time:6.2f} s  page {here.page}  system {here.system}  "
            f"measure {measure.number:2}  confidence {here.confidence:.2f}"
        )

# %% [markdown]
# ## When was each measure played?

# %%
alignment = align(sonata, take, scan=scan)
for point in alignment.tempo_map:
    print(f"measure {point.measure:2}  {point.time:6.2f} s  {point.tempo:6.1f} a minute")
