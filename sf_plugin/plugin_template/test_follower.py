import my_plugin
import numpy as np

from sf_plugin.conformance import small_score


def test_it_keeps_the_contract(conformance) -> None:
    conformance(my_plugin).follower("my-plugin")


def test_it_waits_for_the_first_sound() -> None:
    follower = my_plugin.MyPlugin()
    follower.prepare(small_score())
    states = [one.state for one in follower.feed(np.zeros(8000, np.float32))]
    assert set(states) == {"waiting"}
