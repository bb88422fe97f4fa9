"""Every error a user of the lab can meet says what happened, where, and what to do."""


class LabError(Exception):
    """Any error of the lab's own. Its text is written for the person at the keyboard."""


class UnknownModel(LabError):
    """A model's name is neither known to the catalog, nor a local folder, nor a hub id."""


class ModelUnavailable(LabError):
    """The model is known, but nothing local serves it and it could not be fetched."""


class UnsuitableModel(LabError):
    """The files were read, but the lab can't work with this model."""


class BadPrompts(LabError):
    """A prompt file or list can't be used; names the file and the line."""


class BadDemonstrations(LabError):
    """Demonstrations can't be used; names the file and the line."""


class BadPreferences(LabError):
    """Preferences to import can't be used; names the file and the line."""


class BadCorpus(LabError):
    """The corpus can't be used; names the file and the place in it."""


class PromptTooLong(LabError):
    """A prompt leaves no room for a completion in the model's context."""


class NotReady(LabError):
    """A step was asked for before the step it needs: says what is missing."""


class AlreadyAnswered(LabError):
    """A question was answered on another board, or in another notebook, meanwhile."""


class BadSetting(LabError, ValueError):
    """A setting is outside its range: names the setting, the value and the range."""


class DamagedStudy(LabError):
    """A file of the study can't be read. It is kept aside, never overwritten."""


class NotRepeated(LabError):
    """An update that is computed again came out otherwise than it is recorded."""


class RunInUse(LabError):
    """Another notebook or trainer is at work on a run."""


class TrainingStopped(LabError):
    """A run met a loss or gradient that is not finite; the last good state is kept."""
