"""The errors that a user can meet, each with the exit code that the command line ends with."""


class TinsmithError(Exception):
    """Base of every error meant for a user: says what, where, what is allowed and what to do."""

    exit_code = 2


class GateFailed(TinsmithError):
    """A gate of accuracy, size, speed or exactness did not hold."""

    exit_code = 1


class ConfigError(TinsmithError):
    """Wrong use: a flag, a configuration key or a value that is not allowed."""

    exit_code = 2


class UnknownTarget(ConfigError):
    """A target that does not exist; the message offers the nearest names."""


class DataError(ConfigError):
    """Data of the wrong shape, type or place."""


class ModelError(TinsmithError):
    """A model file that is damaged, or that breaks the rules of its format."""

    exit_code = 3


class UnsupportedModel(ModelError):
    """A sound model with something that tinsmith does not support; every reason is listed."""


class DoesNotFit(ModelError):
    """A model that is too large for its target; says by how much and which layer decides."""


class ToolMissing(TinsmithError):
    """A tool is not installed; the message has the command that installs it."""

    exit_code = 4


class ToolFailed(TinsmithError):
    """A tool is there but failed: a compiler's error, a full disk."""

    exit_code = 4


class DeviceSilent(TinsmithError):
    """A device or an emulator did not answer, or answered with a fault."""

    exit_code = 5
