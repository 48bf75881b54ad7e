from __future__ import annotations

import os
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from music21 import converter, corpus, note, stream

import sf_plugin.score.loaders
from sf_plugin.errors import ScoreError
from sf_plugin.plugins import PluginInfo, Registry, load_plugins
from sf_plugin.score.engraving import engrave, engrave_stream, load_engraved, measures_of
from sf_plugin.score.layout import Layout, Measure
from sf_plugin.score.load import load_score
from sf_plugin.score.model import PAGE_WIDTH, Score

DATA = Path(__file__).parent / "data"
WALTZ = DATA / "waltz.musicxml"

KERN = """\
**kern	**kern
*clefF4	*clefG2
*k[b-]	*k[b-]
*M3/4	*M3/4
=1	=1
4FF	8aL
.	8b-J
4F	4cc
4F	4a
=2:|!|:	=2:|!|:
2.C	4g
.	4a
.	8b-L
.	8gJ
=:|!	=:|!
*-	*-
"""
ABC = """\
X:1
T:Reel
M:3/4
L:1/8
K:G
|:G2 A2 B2|1 c2 z4:|2 c4 z2|]
"""
MEI = """\
<mei xmlns="http://www.music-encoding.org/ns/mei"><music><body>{}</body></music></mei>"""
MOVEMENT = """\
<mdiv><score><scoreDef><staffGrp><staffDef n="1" lines="5" clef.shape="G" clef.line="2"
meter.count="2" meter.unit="4"/></staffGrp></scoreDef><section>
<measure n="7a" right="rptend"><staff n="1"><layer n="1"><note pname="c" oct="5" dur="4"/>
<note pname="d" oct="5" dur="4"/></layer></staff></measure></section></score></mdiv>"""


@pytest.fixture(scope="module")
def waltz() -> Score:
    return load_engraved([WALTZ])


@pytest.fixture(scope="module")
def loaders() -> Registry:
    info = PluginInfo("loaders", "sf-plugin", "0")
    return load_plugins([(info, lambda: sf_plugin.score.loaders)])


def measures(score: Score) -> list[Measure]:
    assert score.layout is not None
    return [m for page in score.layout.pages for s in page.systems for m in s.measures]


def test_layout_is_the_stored_one(waltz: Score) -> None:
    golden = Layout.from_json((DATA / "waltz.layout.json").read_text())
    assert waltz.layout is not None
    assert len(waltz.layout.pages) == len(golden.pages) == len(waltz.pages)
    for page, golden_page in zip(waltz.layout.pages, golden.pages, strict=True):
        for ours, theirs in zip(page.systems, golden_page.systems, strict=True):
            box = (ours.top, ours.bottom, ours.left, ours.right)
            expected = (theirs.top, theirs.bottom, theirs.left, theirs.right)
            assert box == pytest.approx(expected, abs=0.003)
            for a, b in zip(ours.measures, theirs.measures, strict=True):
                assert (a.number, a.label, a.volta) == (b.number, b.label, b.volta)
                assert (a.repeat_start, a.repeat_end) == (b.repeat_start, b.repeat_end)
                assert (a.left, a.right) == pytest.approx((b.left, b.right), abs=0.003)
                assert [x for x, _ in a.onsets] == pytest.approx(
                    [x for x, _ in b.onsets], abs=0.003
                )
                assert [t for _, t in a.onsets] == pytest.approx([t for _, t in b.onsets])


def test_symbols_of_the_waltz(waltz: Score) -> None:
    found = measures(waltz)
    assert [m.number for m in found] == list(range(1, 13))
    assert [m.label for m in found] == [str(n) for n in range(12)]
    assert [m.number for m in found if m.repeat_start] == [2]
    assert [m.number for m in found if m.repeat_end] == [8]
    assert {m.number: m.volta for m in found if m.volta} == {8: "1", 9: "2"}
    beats = [[beat for _, beat in m.onsets] for m in found]
    assert beats[0] == [0, 1], "the upbeat lasts a quarter"
    assert beats[1] == [0, 1, 2, 3]
    assert beats[2] == [0, 1, 1.5, 2, 3], "a grace note takes no time"
    assert beats[4] == pytest.approx([0, 1 / 3, 2 / 3, 1, 3], abs=1e-5)
    assert beats[6] == [0, 3], "a measure of rest has its start and its length"


def test_measures_tile_their_systems(waltz: Score) -> None:
    assert waltz.layout is not None
    for page in waltz.layout.pages:
        for system in page.systems:
            edges = [m.left for m in system.measures] + [system.measures[-1].right]
            assert edges == sorted(edges)
            assert (edges[0], edges[-1]) == (system.left, system.right)
            for measure in system.measures:
                xs = [x for x, _ in measure.onsets]
                assert xs == sorted(set(xs))
                assert measure.left <= xs[0] < xs[-1] == measure.right


def test_ink_stands_where_the_layout_says(waltz: Score) -> None:
    image = 255 - waltz.pages[0].astype(int)
    height, width = image.shape
    assert width == PAGE_WIDTH
    assert height in (1199, 1200)
    assert waltz.layout is not None
    for system in waltz.layout.pages[0].systems:
        left, right = round(system.left * width) + 1, round(system.right * width) - 1
        top, bottom = round(system.top * height), round(system.bottom * height)
        for row in (top, bottom):
            assert image[row - 1 : row + 2, left:right].max(axis=0).min() > 60, "a staff line"
        staff = image[top : top + 28]
        for measure in system.measures:
            column = round(measure.right * width)
            assert staff[:, column - 6 : column + 7].min(axis=0).max() > 60, "a bar line"
            for x, _ in measure.onsets[:-1]:
                if x == measure.left:
                    continue
                centre = round(x * width)
                strip = image[top - 15 : bottom + 15, centre - 2 : centre + 3]
                assert strip.min(axis=1).max() > 90, "a head or rest"


def test_the_page_has_no_ink_outside_its_music(waltz: Score) -> None:
    image = waltz.pages[0]
    assert image[500:].min() == 255
    assert image[:, :20].min() == 255
    assert 0.01 < (image < 128).mean() < 0.05


def test_dynamics_fingerings_and_text_are_drawn(waltz: Score) -> None:
    image = waltz.pages[0]
    assert image[38:58, 360:490].min() < 60, "the title"
    assert waltz.layout is not None
    system = waltz.layout.pages[0].systems[0]
    gap = image[round(system.top * 1200) + 40 : round(system.bottom * 1200) - 40]
    x = round(system.measures[1].onsets[0][0] * PAGE_WIDTH)
    assert (gap[:, x - 8 : x + 16] < 100).sum() > 20, "mf, from the music font"


def test_long_scores_fill_several_pages() -> None:
    part = stream.Part()
    for number in range(1, 301):
        part.append(stream.Measure([note.Note(60 + number % 12, type="whole")], number=number))
    score = engrave_stream(part)
    assert len(score.pages) > 1
    assert score.layout is not None
    assert [page.page for page in score.layout.pages] == list(range(1, len(score.pages) + 1))
    assert [m.number for m in measures(score)] == list(range(1, 301))
    assert all((image < 128).any() for image in score.pages)


def same(a: Score, b: Score) -> None:
    for x, y in zip(measures(a), measures(b), strict=True):
        assert (x.left, x.right) == pytest.approx((y.left, y.right), abs=0.01)
        assert [t for _, t in x.onsets] == pytest.approx([t for _, t in y.onsets])


@pytest.mark.parametrize("container", [True, False])
def test_mxl_is_the_same_score(tmp_path: Path, waltz: Score, container: bool) -> None:
    path = tmp_path / "waltz.mxl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if container:
            archive.writestr(
                "META-INF/container.xml",
                '<container><rootfiles><rootfile full-path="in/w.xml"/></rootfiles></container>',
            )
            archive.writestr("aside.xml", "<other/>")
        archive.write(WALTZ, "in/w.xml")
    same(load_engraved([path]), waltz)


def test_utf16_musicxml(tmp_path: Path, waltz: Score) -> None:
    path = tmp_path / "waltz.xml"
    text = WALTZ.read_text(encoding="utf-8").replace("utf-8", "utf-16", 1)
    path.write_bytes(text.encode("utf-16"))
    same(load_engraved([path]), waltz)


def test_mei(tmp_path: Path) -> None:
    path = tmp_path / "one.mei"
    path.write_text(MEI.format(MOVEMENT))
    (only,) = measures(load_engraved([path]))
    assert (only.number, only.label, only.repeat_end) == (1, "7a", True)
    assert [beat for _, beat in only.onsets] == [0, 1, 2]


def test_kern(tmp_path: Path) -> None:
    path = tmp_path / "one.krn"
    path.write_text(KERN)
    first, second = measures(load_engraved([path]))
    assert (first.repeat_end, second.repeat_start, second.repeat_end) == (True, True, True)
    assert [beat for _, beat in first.onsets] == [0, 0.5, 1, 2, 3]


def test_abc_with_endings_comes_through_music21(tmp_path: Path) -> None:
    path = tmp_path / "reel.abc"
    path.write_text(ABC)
    score = load_engraved([path])
    assert score.name == "reel"
    assert [m.volta for m in measures(score)] == [None, "1", "2"]
    assert len(measures_of(score.symbols)) == 3


def test_midi_comes_through_music21(tmp_path: Path) -> None:
    path = tmp_path / "scale.mid"
    scale = stream.Part([note.Note(60 + n) for n in range(8)])
    scale.write("midi", path)
    score = load_engraved([path])
    assert len(measures(score)) == len(measures_of(score.symbols)) == 2
    assert [beat for _, beat in measures(score)[0].onsets] == [0, 1, 2, 3, 4]


def test_a_stream_keeps_its_measures() -> None:
    chorale = corpus.parse("bach/bwv66.6")
    score = engrave_stream(chorale)
    assert score.symbols is chorale
    symbols = measures_of(chorale)
    assert symbols == list(chorale.parts[0].getElementsByClass("Measure"))
    for ours, theirs in zip(measures(score), symbols, strict=True):
        offsets = {
            round(float(Fraction(n.offset)), 6)
            for part in chorale.parts
            for m in part.getElementsByClass("Measure")
            if m.number == theirs.number
            for n in m.notesAndRests
        }
        assert {beat for _, beat in ours.onsets[:-1]} == offsets
        assert ours.label == str(theirs.number)


def test_a_stream_without_measures_gets_them() -> None:
    notes = [note.Note(60 + n) for n in range(10)]
    score = engrave_stream(stream.Stream(notes))
    assert len(measures(score)) == len(measures_of(score.symbols)) == 3
    assert [n.pitch.midi for n in measures_of(score.symbols)[1].notes] == [64, 65, 66, 67]


def test_tiny_notation_and_single_measures() -> None:
    tune = converter.parse("tinynotation: 3/4 c4 d e f g a b2.")
    assert len(measures(engrave_stream(tune))) == 3
    assert len(measures(engrave_stream(stream.Measure([note.Note("C4")])))) == 1


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.2, 0.5, 0.9, 0.999])
def test_truncated_musicxml(tmp_path: Path, fraction: float) -> None:
    data = WALTZ.read_bytes().rstrip()
    path = tmp_path / "cut.musicxml"
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(ScoreError, match=r"cut\.musicxml: .*again"):
        load_engraved([path])


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.99])
def test_truncated_mxl(tmp_path: Path, fraction: float) -> None:
    path = tmp_path / "cut.mxl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(WALTZ, "w.xml")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(ScoreError, match=r"cut\.mxl: .*again"):
        load_engraved([path])


def test_mxl_without_a_score(tmp_path: Path) -> None:
    path = tmp_path / "hollow.mxl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ScoreError, match=r"hollow\.mxl: holds no score"):
        load_engraved([path])


RESTS = """\
<score-partwise><part-list><score-part id="P1"><part-name/></score-part></part-list>
<part id="P1"><measure number="1"><note><rest/><duration>4</duration></note></measure></part>
</score-partwise>"""


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.xml", "<html/>", "neither MusicXML"),
        ("a.xml", "<score-timewise/>", "neither MusicXML"),
        ("a.musicxml", "<score-partwise/>", "cannot be engraved|no notes"),
        ("a.musicxml", RESTS, "no notes"),
        ("a.musicxml", "hello", "damaged"),
        ("a.mei", MEI.format(""), "cannot be engraved|no notes"),
        ("a.mei", MEI.format(MOVEMENT * 2), "2 movements"),
        ("a.krn", "hello", "Humdrum"),
        ("a.krn", KERN[:80], "cut off"),
        ("a.krn", KERN.replace("4F\t4cc", "4F\t4cc\t4c"), "spines"),
        ("a.abc", "X:1\n", "no notes|music21"),
        ("a.abc", ABC + "\n" + ABC.replace("X:1", "X:2"), "2 pieces"),
        ("a.mid", "MThd", "music21"),
    ],
)
def test_what_cannot_be_engraved_says_why(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ScoreError, match=rf"{name}: .*({reason})") as caught:
        load_engraved([path])
    assert "\n" not in str(caught.value)


def test_streams_without_music() -> None:
    with pytest.raises(ScoreError, match="no notes"):
        engrave_stream(stream.Score())
    with pytest.raises(ScoreError, match="no music21 stream"):
        engrave_stream(note.Note("C4"))


def test_text_is_not_taken_for_music() -> None:
    with pytest.raises(ScoreError, match="cannot be engraved"):
        engrave("hello")


def test_load_score_takes_one_path_or_several(tmp_path: Path, loaders: Registry) -> None:
    from PIL import Image

    upper = tmp_path / "PAGE.PNG"
    Image.new("L", (300, 400), 255).save(upper)
    assert len(load_score(upper, loaders).pages) == 1
    assert len(load_score(str(upper), loaders).pages) == 1
    assert len(load_score([upper, str(upper)], loaders).pages) == 2
    assert len(load_score((path for path in [upper]), loaders).pages) == 1
    assert load_score(str(WALTZ), loaders).name == "waltz"


def test_load_score_takes_streams_and_scores(waltz: Score, loaders: Registry) -> None:
    tune = converter.parse("tinynotation: 4/4 c1 d1")
    score = load_score(tune, loaders)
    assert score.symbols is tune
    assert load_score(waltz, loaders) is waltz
    assert np.array_equal(score.pages[0], load_score(tune, loaders).pages[0])


def test_load_score_basics(tmp_path: Path, loaders: Registry) -> None:
    unknown = tmp_path / "song.docx"
    unknown.write_text("x")
    with pytest.raises(ScoreError, match=r"gone\.pdf: there is no such file"):
        load_score(tmp_path / "gone.pdf", loaders)
    with pytest.raises(ScoreError, match="a folder is no score"):
        load_score(tmp_path, loaders)
    with pytest.raises(ScoreError, match=r"song\.docx: .*\.musicxml.*\.pdf.*\.png"):
        load_score(unknown, loaders)
    for nothing in ([], "", 7, [7], None):
        with pytest.raises(ScoreError):
            load_score(nothing, loaders)
    with pytest.raises(ScoreError, match="different"):
        pdf = tmp_path / "a.pdf"
        pdf.write_text("x")
        load_score([WALTZ, pdf], loaders)
    with pytest.raises(ScoreError, match="one symbolic score"):
        load_score([WALTZ, WALTZ], loaders)


def test_unreadable_file(tmp_path: Path, loaders: Registry) -> None:
    path = tmp_path / "mine.pdf"
    path.write_text("x")
    path.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        with pytest.raises(ScoreError, match=r"mine\.pdf: may not be read"):
            load_score(path, loaders)
    finally:
        os.seteuid(user)
