import zipfile
from pathlib import Path

import my_plugin
import pytest
from PIL import Image

from sf_plugin.conformance import small_score


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / f"sonata{my_plugin.SUFFIX}"
    with zipfile.ZipFile(path, "w") as pages:
        for number, page in enumerate(small_score(pages=2).pages, 1):
            with pages.open(f"{number}.png", "w") as file:
                Image.fromarray(page).save(file, "PNG")
    return path


def test_it_keeps_the_contract(conformance, archive: Path) -> None:
    conformance(my_plugin).page_loader(my_plugin.SUFFIX, archive)


def test_the_pages_are_the_images(archive: Path) -> None:
    score = my_plugin.load([archive])
    assert len(score.pages) == 2
    assert (score.pages[1] == small_score().pages[1]).all()
