import my_plugin
import numpy as np


def test_it_keeps_the_contract(conformance) -> None:
    conformance(my_plugin).source("my-plugin", "120", bad="presto")


def test_a_click_a_beat() -> None:
    sound = np.concatenate(list(my_plugin.MyPlugin("120").blocks(8000)))
    loud = np.abs(sound.reshape(16, 4000)).max(1)
    assert (loud > 0.1).all()
