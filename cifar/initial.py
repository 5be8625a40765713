"""The run that another one begins with (from_run): its weights, its preprocessing and the images that it knew.

A run that begins so keeps a copy in its folder initial/, from which it resumes, whatever has happened to the other run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from cifar import saved
from cifar.data.known import INITIAL, Known
from cifar.data.preprocessing import InputFormat
from cifar.files import temporary_beside, write_atomically
from cifar.models.preprocess import Preprocess
from cifar.options.option import ConfigError
from cifar.results import BEST, same_directory
from cifar.training import checkpoint
from cifar.training.checkpoint import CheckpointError


@dataclass(frozen=True)
class Initial:
    """`best`: its best.pt, which lies in `directory`; `content`: the bytes of that file, as they were read once."""

    directory: Path
    best: dict[str, Any]
    content: bytes = field(repr=False)
    known: Known

    @classmethod
    def read(cls, directory: Path, known: Known) -> Initial:
        """Raises CheckpointError where best.pt is missing, damaged or of another program."""
        path = directory / BEST
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise CheckpointError(f"{path}: no such checkpoint") from None
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
        best = checkpoint.load(path, content=content)
        missing = [key for key in ("model", "classes", "mean", "std", "settings", "transfer") if key not in best]
        if missing:
            raise CheckpointError(f"{path}: not a best.pt of this program ({missing[0]} is missing)")
        return cls(directory, saved.upgraded(best), content, known)

    @cached_property
    def sha256(self) -> str:
        """Of best.pt."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def path(self) -> Path:
        return self.directory / BEST

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.best["classes"])

    @property
    def format(self) -> InputFormat:
        """What image files are brought to for its weights."""
        return saved.input_format(self.best)

    @property
    def preprocess(self) -> Preprocess:
        """Of its pretrained backbone."""
        return saved.preprocess(self.best)

    def save(self, run: Path) -> None:
        """Keep a copy in the folder initial/ of a run directory."""
        target = run / INITIAL
        if same_directory(self.directory, target):
            return
        target.mkdir(exist_ok=True)
        self.known.write(target)
        self._keep(target / BEST)

    def _keep(self, target: Path) -> None:
        """A second name of best.pt where that is possible, as each trial of a search keeps it; else a copy."""
        temporary = temporary_beside(target)
        try:
            os.link(self.path.resolve(), temporary)  # best.pt is replaced as a whole: what it was stays under this name
            if temporary.read_bytes() == self.content:
                temporary.replace(target)
                return
        except OSError:  # another file system, or one without links
            pass
        finally:
            temporary.unlink(missing_ok=True)
        write_atomically(target, self.content)

    def load(self, model: nn.Module, classes: tuple[str, ...], by_class: Callable[[], list[str]]) -> None:
        """Put the weights into a model of these classes; rows of new ones stay as they are.

        `by_class` lists the tensors that have a row for each class. Raises CheckpointError where others do not fit.
        """
        weights = dict(self.best["model"])
        if classes != self.classes:
            state = model.state_dict()
            for name in by_class():
                if name in weights and weights[name].shape == (len(self.classes), *state[name].shape[1:]):
                    rows = state[name].clone()
                    for row, label in enumerate(classes):
                        if label in self.classes:
                            rows[row] = weights[name][self.classes.index(label)]
                    weights[name] = rows
        checkpoint.load_weights(model, weights, self.path)


def tensors_by_class(model: nn.Module, classes: int, other: Callable[[int], nn.Module]) -> list[str]:
    """The tensors of a model of so many classes that have a row for each; `other` makes it for another number.

    Raises ConfigError where there are none, or where other tensors depend on the classes.
    """
    state, larger = model.state_dict(), other(classes + 1).state_dict()
    names = [name for name in state if name not in larger or state[name].shape != larger[name].shape]
    fitting = [
        name
        for name in names
        if name in larger and state[name].shape[1:] == larger[name].shape[1:] and state[name].shape[:1] == (classes,)
    ]
    if not names or fitting != names or state.keys() != larger.keys():
        odd = next((name for name in names if name not in fitting), None)
        problem = (
            f"{odd} depends on the classes otherwise than by a row for each" if odd else "no layer depends on them"
        )
        raise ConfigError(
            f"model: the classes are others than those of the run that this one begins with (from_run), and their rows"
            f" cannot be found in this network: {problem}; allowed: the classes as they were, a network whose last"
            " layer has num_classes outputs, or a run without from_run"
        )
    return names
