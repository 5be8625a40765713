"""The settings and the images of a run that is done, from its directory.

Files of others may name places and addresses: the cache and the tracker are those of today's defaults.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from cifar import metadata, overrides
from cifar.content import ContentError, content_differences, content_of, recorded_content
from cifar.data.images import DataError
from cifar.data.split import Splits
from cifar.layout import CONF
from cifar.options.check import check
from cifar.options.config import Config
from cifar.options.former import upgrade_settings
from cifar.options.option import ConfigError
from cifar.options.resume import completed
from cifar.options.shared import read_yaml
from cifar.options.times import check_one, without_time
from cifar.resources import Resources
from cifar.run_data import load_images, load_splits, with_recorded_fixes


def composed(*keys: str) -> Config:
    """The checked settings that `python run.py KEYS` would run with."""
    lines = overrides.parse(list(keys))
    check_one(lines)
    with initialize_config_dir(str(CONF)):
        config = compose("config", list(keys))
        added = [str(override.input_line) for override in without_time(lines, config)]
        return check(compose("config", [*keys, *added]) if added else config)


def composed_of_keys(keys: list[str]) -> Config:
    """The same, of a user's keys; those that are searched (lr=0.1,0.2) have their default.

    Raises ConfigError where they are not allowed.
    """
    try:
        lines = overrides.parse(keys)
        check_one(lines)
        settings = [override for override in lines if not override.is_sweep_override()]
        return composed(*(str(override.input_line) for override in settings))
    except (HydraException, OmegaConfBaseException) as error:
        text = str(error).partition("\nConfig search path:")[0]
        raise ConfigError(" ".join(text.split())) from None


def recorded_config(run: Path) -> Config:
    """The checked settings that the run in a directory recorded; settings that it did not record have today's defaults.

    Raises ConfigError where it recorded none, or some that are not allowed today.
    """
    file = run / ".hydra" / "config.yaml"
    record = read_yaml(file)
    if not isinstance(record, dict):
        raise ConfigError(f"{file}: holds no settings of a run")
    today = composed()
    settings = {key: value for key, value in upgrade_settings(record).items() if key not in metadata.ELSEWHERE}
    config = check(completed(settings, today))
    return dataclasses.replace(config, device="cpu")


def recorded_splits(run: Path) -> Splits:
    """The images that the run in a directory was trained and validated on. Nothing is downloaded.

    Raises ContentError where the place holds others now, DataError where it holds none.
    """
    resources = Resources()
    # with its split, what it began with, and its fixes
    config = with_recorded_fixes(dataclasses.replace(recorded_config(run), resume=str(run)))
    data = config.data
    if not data.only_reads(data.root or ""):
        raise DataError(f"data.root={data.root}: the images are not there")
    splits = load_splits(config, resources)
    facts = metadata.data_facts(config, load_images(config, resources), splits)
    changes = content_differences(recorded_content(run), content_of({"data": facts}))
    if changes:
        raise ContentError("; ".join(changes))
    return splits
