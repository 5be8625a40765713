"""How trials are counted, and which of them belong together: functions of what the storage holds, without side effects.

COMPLETE, PRUNED, RUNNING   count against the total
FAIL                        counts too (outcome failed, diverged), unless another trial retries its parameters
                            (outcome lost, interrupted), replaces it on demand (replaced), or it was over the quota
                            (withdrawn)
WAITING                     parameters to retry, or to run next; counts once it runs
"""

from __future__ import annotations

from optuna.trial import FrozenTrial, TrialState

RETRIED = ("lost", "interrupted")
"""Outcomes of a FAIL whose parameters are tried again."""


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial counts against the total."""
    if trial.state == TrialState.FAIL:
        return trial.user_attrs.get("outcome") not in (*RETRIED, "replaced", "withdrawn")
    return trial.state != TrialState.WAITING


def has_ended(trial: FrozenTrial) -> bool:
    """Whether a trial counts against the total and does not run any more."""
    return counts(trial) and trial.state.is_finished()


def failed(trial: FrozenTrial) -> bool:
    """Whether a trial failed for good: it is not retried by itself."""
    return trial.state == TrialState.FAIL and counts(trial)


def to_retry(trial: FrozenTrial) -> bool:
    """Whether a trial ended before its run did, so that its parameters are tried again."""
    return trial.state == TrialState.FAIL and trial.user_attrs.get("outcome") in RETRIED


def withdrawal(trial: FrozenTrial, trials: list[FrozenTrial], total: int) -> str | None:
    """The outcome of a trial that has just begun and is over the quota; None where it is not.

    Only machines without a common lock begin such trials. Of two that begin at the same moment, the one that reads
    the storage later sees the other. New trials yield to those with lower numbers alone, so that not all of them
    yield; a retry, whose number is older than its start, yields to all.
    """
    retry_of = trial.user_attrs.get("retry_of")
    others = [t for t in trials if counts(t) and t.number != trial.number]
    if retry_of is None:
        earlier = sum(t.number < trial.number for t in others)
        return "withdrawn" if earlier >= total else None
    if any(t.number < trial.number and t.user_attrs.get("retry_of") == retry_of for t in trials):
        return "withdrawn"
    return "lost" if len(others) >= total else None


def lineage(trial: FrozenTrial, trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that this one retries, latest first."""
    by_number = {t.number: t for t in trials}
    before = []
    while (number := trial.user_attrs.get("retry_of")) is not None:
        trial = by_number[number]
        before.append(trial)
    return before


def folder_of(trial: FrozenTrial) -> str:
    """A trial's run directory, relative to the study's folder; before it is known, that of its number."""
    return str(trial.user_attrs.get("folder") or trial.number)
