"""Studies in memory, for what Optuna computes and draws from studies alone."""

from __future__ import annotations

import optuna


def scratch_study(name: str | None = None) -> optuna.Study:
    """An empty study in memory; creating it logs nothing."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage(), study_name=name)
    optuna.logging.set_verbosity(verbosity)
    return study
