"""What can go wrong with a run; every message is a sentence a person can act on."""


class RunError(ValueError):
    """Base of all errors about runs."""


class RunNameError(RunError):
    """The name cannot be a run's, or its folder is not a plain folder below the root."""


class RunDamagedError(RunError):
    """A run's folder holds something that was not written by us or is incomplete."""


class RunMismatchError(RunError):
    """The run was started with another model or other LoRA settings."""


class StaleRolloutError(RunError):
    """The run has moved on since the pictures were made."""


class RunBusyError(RunError):
    """Another process is writing to the run."""


class RunWriteError(RunError):
    """The round could not be written; the run is as it was."""
