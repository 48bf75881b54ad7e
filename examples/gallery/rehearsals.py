# %% [markdown]
# # Ten rehearsals
#
# Ten takes of the same measures: how fast was each, how steady, and where does the tempo give way?

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from music21 import corpus, features
from performing import perform

import sf_plugin
from sf_adapters.music21 import EXTRACTORS, align, register

TAKES = 10
folder = Path(tempfile.mkdtemp(prefix="rehearsals-"))
passage = corpus.parse("mozart/k545/movement1_exposition").measures(1, 4)

# %% [markdown]
# The takes are rendered: the tempo wanders, less from take to take, and measure 3 is hurried in all
# of them.

# %%
rng = np.random.default_rng(1)
takes = []
for number in range(TAKES):
    quarters = int(passage.highestTime) + 1
    wander = np.cumsum(rng.normal(0, 0.04 * (1 - number / TAKES), quarters))
    curve = (110 + 2 * number) * np.exp(wander - wander.mean())
    curve[8:12] *= 1.12
    take = folder / f"take-{number + 1}.mid"
    takes.append(perform(passage, lambda offset, curve=curve: curve[int(offset)], take))

# %% [markdown]
# Each take is aligned and kept. The score is put on the stand once.

# %%
register()
score = sf_plugin.load_score(passage)
files, maps = [], []
for take in takes:
    alignment = align(score, take)
    maps.append(alignment.tempo_map)
    files.append(alignment.stream.write("scorefollow", take.with_suffix(".sfalign")))

# %% [markdown]
# ## Each take
#
# The features are music21's kind, and its data sets collect them; they can be written for Weka,
# Orange or a spreadsheet. music21's own processes do not know the format, so the files are read
# in this one.

# %%
takes = features.DataSet(classLabel="take", featureExtractors=EXTRACTORS)
takes.runParallel = False
for number, file in enumerate(files, 1):
    takes.addData(str(file), classValue=number, id=file.stem)
takes.process()
labels = takes.getAttributeLabels()
columns = [labels.index(name) for name in ("Average_Tempo", "Tempo_Variability", "Beat_Deviation")]
print("take       tempo  variability  deviation")
for row in takes.getFeaturesAsList():
    tempo, variability, deviation = (row[column] for column in columns)
    print(f"{row[0]:8} {tempo:7.1f} {variability:12.3f} {deviation:10.3f}")
takes.write(str(folder / "takes.csv"))

# %% [markdown]
# ## Each measure
#
# Over all takes, against the tempo of the take: the mean, and how much the takes differ.

# %%
tempos = np.full((TAKES, 4), np.nan)
for number, tempo_map in enumerate(maps):
    for point in tempo_map:
        tempos[number, point.measure - 1] = point.tempo
relative = tempos / np.nanmean(tempos, axis=1, keepdims=True)
for measure, column in enumerate(relative.T, 1):
    print(f"measure {measure}  {np.nanmean(column):5.2f}  ± {np.nanstd(column):.2f}")

figure, axes = plt.subplots()
axes.plot(np.arange(1, 5), tempos.T, color="0.7")
axes.plot(np.arange(1, 5), np.nanmean(tempos, axis=0), color="C0", linewidth=2)
axes.set(xlabel="measure", ylabel="quarter notes a minute", title=f"{TAKES} takes and their mean")
figure.savefig(folder / "tempo.png")
