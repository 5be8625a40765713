"""The name of a study whose command line gives none: what is searched, as cifar10-resnet14-sgd-plateau."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import CategoricalDistribution
from optuna.study import Study

from cifar.overrides import key_of, parse
from cifar.sweep import rehearsal
from cifar.sweep.app import Invocation, no_name
from cifar.sweep.space import Space
from cifar.sweep.storage import StudyError, open_study


def of_study(call: Invocation, space: Space) -> str:
    """The name of the study that a start without a name resumes or begins.

    That of the study in hydra.sweep.dir, where it is given and holds one; otherwise what is searched and on what. A
    study with the name that earlier versions gave it, without the latter, is resumed if it is of data of that name.
    """
    present = _open(call, None, _given_folder(call.config))
    if present is not None:
        return present.study_name
    content = content_name(call, space)
    name, former = default_name(call, space, content), default_name(call, space, "")
    if content and _stored(call, name) is None:
        study = _stored(call, former)
        if study is not None and _content_name_of(call, study, space) == content:
            return former
    return name


def checked(config: DictConfig) -> str | None:
    """hydra.sweeper.study_name, which is a folder below sweeps/ too. Raises StudyError where it cannot be one."""
    name: str | None = config.hydra.sweeper.study_name
    if name is None or is_given(config, "hydra.sweep.dir"):
        return name
    parts = PurePath(name).parts
    is_folder = parts and ".." not in parts and parts[0] != "/" and all(len(os.fsencode(part)) < 200 for part in parts)
    if not is_folder:
        raise StudyError(
            f"hydra.sweeper.study_name={name[:50]}: not the name of a folder below sweeps/; allowed: 1 to 199 bytes,"
            " without .. in it, or any name with hydra.sweep.dir=DIR"
        )
    return name


def is_given(config: DictConfig, key: str) -> bool:
    """Whether the command line gives a key of Hydra."""
    return key in map(key_of, parse(overrides_of_hydra(config)))


def overrides_of_hydra(config: DictConfig) -> list[str]:
    """The overrides of Hydra's own settings, with their interpolations, which only a trial can resolve."""
    lines = OmegaConf.to_container(config.hydra.overrides.hydra, resolve=False)
    assert isinstance(lines, list)
    return lines


def default_name(call: Invocation, space: Space, content: str) -> str:
    """What is searched, with the name of its data after the first group; searched options are joined by +."""
    words = []
    for group in call.app.name_groups:
        option = str(call.config.hydra.runtime.choices.get(group) or "")
        if group in space.options:
            option = "+".join(space.options[group])
        if option and option != "none":
            words.append(_word(option))
        if group == call.app.name_groups[0] and content:
            words.append(content)
    return "-".join(words) or str(call.config.hydra.job.name)


def _word(text: str) -> str:
    return re.sub(r"[^\w.+]+", "+", text).strip("+")


def content_name(call: Invocation, space: Space) -> str:
    """The app's name for what is trained on; names of several, among which trials choose, are joined by +."""
    if call.app.content_name is no_name:
        return ""
    try:
        names = [call.app.content_name(variant) for variant in _variants(call, space)]
    except HydraException:
        return ""  # the check of the space names what is wrong
    return "+".join(dict.fromkeys(_word(name) for name in names if name))


def _variants(call: Invocation, space: Space) -> Iterator[DictConfig]:
    """The config with each value of each choice that decides what is trained on; once where there is none."""
    loader = call.context.config_loader
    common = [*space.fixed.values(), *rehearsal.missing_groups(call.config, space)]
    drawn = [
        space.override(key, choice)
        for key, distribution in space.distributions.items()
        if isinstance(distribution, CategoricalDistribution) and call.app.decides_content(key)
        for choice in distribution.choices
    ]
    for line in drawn:
        yield loader.load_sweep_config(call.config, [*common, line])
    if not drawn:
        yield loader.load_sweep_config(call.config, common)


def _stored(call: Invocation, name: str) -> Study | None:
    """The study of this name in the folder that it has by default; None where there is none."""
    return _open(call, name, _given_folder(call.config) or Path("sweeps", name))


def _given_folder(config: DictConfig) -> Path | None:
    """The folder that hydra.sweep.dir names; None where it is not given, or depends on the trial."""
    try:
        return Path(config.hydra.sweep.dir) if is_given(config, "hydra.sweep.dir") else None
    except OmegaConfBaseException:
        return None


def _open(call: Invocation, name: str | None, folder: Path | None) -> Study | None:
    if folder is None:
        return None
    url = call.config.hydra.sweeper.storage or f"sqlite:///{folder.resolve() / 'study.db'}"
    if name is None and call.config.hydra.sweeper.storage:
        return None  # a storage of several folders
    try:
        return open_study(str(url), name)
    except StudyError:
        return None


def _content_name_of(call: Invocation, study: Study, space: Space) -> str | None:
    """The name for what a stored study is trained on, by its latest command line; None where it cannot be composed."""
    search = [line for key, line in space.fixed.items() if key == "search"]  # shapes hydra.sweeper: the same for all
    overrides = [*study.user_attrs.get("overrides", []), *search]
    try:
        config = call.context.config_loader.load_sweep_config(call.config, overrides)
    except HydraException:
        return None
    return _word(call.app.content_name(config))
