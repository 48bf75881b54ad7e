import my_plugin

from sf_plugin.conformance import small_layout
from sf_plugin.positions import Estimate


def test_it_keeps_the_contract(conformance) -> None:
    conformance(my_plugin).mapper("my-plugin")


def test_the_measure_is_named_where_the_follower_is_sure() -> None:
    mapper = my_plugin.MyPlugin()
    mapper.open(small_layout())
    assert mapper.locate(Estimate(0.0, 1, 0.2, 0.2, 0.9, "tracking")).measure == 1
    assert mapper.locate(Estimate(0.1, 1, 0.2, 0.2, 0.1, "unsure")).measure is None
