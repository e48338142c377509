"""The error tree. Every message says what happened, what was given, and what to do.

    MultigrainError                 (exit code 1)
    ├── ConfigError                 a config file or option is wrong                       (2)
    ├── SourceError                 documents, pairs or evaluation files cannot be used    (3)
    ├── MissingExtraError           an optional dependency is not installed                (4)
    ├── LLMError                    the language model cannot be used                      (5)
    │   ├── EndpointUnreachableError    nothing answers at the address
    │   ├── EndpointRefusedError        401, 403, 404: asking again cannot help
    │   └── UnusableOutputError         the model answers, but never in the asked form
    ├── RunDirectoryError           the run directory cannot be used                       (6)
    │   ├── RunBusyError                another process holds it
    │   └── RunMismatchError            it was made with another config
    ├── StageOrderError             an earlier stage has not been run                      (7)
    ├── ModelError                  an embedding model cannot be loaded or adapted         (8)
    │   └── ExportError                 it cannot be exported, or the export is not the model
    ├── EvaluationError             an evaluation set or comparison cannot be used         (9)
    ├── EngineError                 the cluster cannot be used                             (10)
    └── HubError                    nothing can be pushed to the hub                       (11)

Errors of this tree are a user's to mend: the command line prints the message as one line and exits
with the code above. Anything else is our bug and keeps its traceback.
"""

from __future__ import annotations


class MultigrainError(Exception):
    """Base of every error that a user can mend.

    Attributes:
        exit_code: what the command line exits with.
    """

    exit_code = 1


class ConfigError(MultigrainError):
    """A config file or a command-line option is wrong."""

    exit_code = 2


class SourceError(MultigrainError):
    """Documents, pairs or their files cannot be read or used."""

    exit_code = 3


class MissingExtraError(MultigrainError):
    """An optional dependency is not installed; the message carries the pip line."""

    exit_code = 4

    def __init__(self, package: str, purpose: str, install: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}, which is not installed: run `{install}`")
        self.package = package
        self.install = install


class LLMError(MultigrainError):
    """The language model cannot be used."""

    exit_code = 5


class EndpointUnreachableError(LLMError):
    """Nothing answers at the endpoint's address."""


class EndpointRefusedError(LLMError):
    """The endpoint refuses for good (401, 403, 404): asking again cannot help."""


class UnusableOutputError(LLMError):
    """The model answers, but hardly ever in the form that was asked for."""


class RunDirectoryError(MultigrainError):
    """The run directory cannot be used."""

    exit_code = 6


class RunBusyError(RunDirectoryError):
    """Another process is working in the run directory."""


class RunMismatchError(RunDirectoryError):
    """The run directory holds results of another config."""


class StageOrderError(MultigrainError):
    """A stage was asked for whose input an earlier stage has not written yet."""

    exit_code = 7


class ModelError(MultigrainError):
    """An embedding model cannot be loaded, adapted or saved."""

    exit_code = 8


class ExportError(ModelError):
    """A model cannot be written in another form, or what was written does not give the model's vectors."""


class EvaluationError(MultigrainError):
    """An evaluation set, or a comparison, cannot be used."""

    exit_code = 9


class EngineError(MultigrainError):
    """The cluster that work runs on cannot be used."""

    exit_code = 10


class HubError(MultigrainError):
    """Nothing can be pushed to the hub: it refuses, or cannot be reached."""

    exit_code = 11
