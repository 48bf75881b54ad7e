"""What can go wrong in a way the user can mend.

Each message names the file or device, the reason and the next step; the
command line prints it as one line and exits with code 2.
"""


class ScoreFollowerError(Exception):
    """Base of all errors that are the input's or the machine's, not ours."""


class ScoreError(ScoreFollowerError):
    """A score that cannot be read, engraved or followed."""


class AudioError(ScoreFollowerError):
    """Audio or a device that cannot be read."""


class WeightsError(ScoreFollowerError):
    """Weights that are missing, damaged or of another version."""


class SinkError(ScoreFollowerError):
    """A receiver of events that cannot be opened."""


class PluginError(ScoreFollowerError):
    """A plug-in that is missing or breaks its contract."""
