"""SIGKILLs at random moments of a sweep (parent, worker, both), the same command again each time: what is lost.

python -m benchmarks sweep_kills
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.common import save
from benchmarks.sweep_runs import finish, start, trials


def kill(process: subprocess.Popen[bytes], whom: str) -> None:
    """SIGKILL the parent, one worker or all."""
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout
    workers = [int(pid) for pid in listed.split()]
    victims = {"parent": [process.pid], "worker": workers[-1:], "both": [process.pid, *workers]}[whom]
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def progress(folder: Path) -> int:
    """Bytes of learning curves so far."""
    return sum(path.stat().st_size for path in (folder / "study").glob("*/metrics.csv"))


def complete(folder: Path) -> dict[int, str]:
    """The hash of the files of every complete trial."""
    if not (folder / "study" / "study.db").exists():
        return {}
    hashes = {}
    for trial in trials(folder):
        if trial.state.name == "COMPLETE":
            files = sorted(path for path in (folder / "study" / str(trial.number)).rglob("*") if path.is_file())
            hashes[trial.number] = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return hashes


def audit(folder: Path) -> dict[str, Any]:
    """How the study ended: states, why any failed, and the unfinished that were not tried again exactly once."""
    audited = trials(folder)
    retries = Counter(t.user_attrs["retry_of"] for t in audited if "retry_of" in t.user_attrs)
    unfinished = [t.number for t in audited if t.user_attrs.get("outcome") in ("lost", "interrupted")]
    return {
        "states": dict(Counter(t.user_attrs.get("outcome", t.state.name) for t in audited)),
        "not retried once": [number for number in unfinished if retries[number] != 1],
        "failed": {t.number: t.user_attrs["reason"] for t in audited if t.user_attrs.get("outcome") == "failed"},
    }


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sweep_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    rng = random.Random(options.seed)
    common = [f"hydra.sweeper.n_trials={options.trials}", "hydra.sweeper.n_jobs=2", "hydra.sweeper.heartbeat=0.5"]
    common += ["hydra/sweeper/pruner=none", "hydra.sweeper.max_deaths=1000"]
    kept: dict[int, str] = {}
    changed: set[int] = set()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number in range(options.kills):
            before = progress(folder)
            process = start(folder, *common, seconds=0.3)
            while number % 5 and process.poll() is None and progress(folder) == before:
                time.sleep(0.05)  # every fifth kill may come while the sweep starts
            time.sleep(rng.uniform(0, 4))
            kill(process, rng.choice(["parent", "worker", "both"]))
            time.sleep(rng.uniform(0, 4))  # the parent replaces a dead worker, and continues for a while
            kill(process, "both")
            process.wait()
            now = complete(folder)
            changed |= {trial for trial in kept if now.get(trial) != kept[trial]}
            kept = now
            print(f"kill {number + 1}: {len(kept)} of {options.trials} trials complete", flush=True)
        finish(start(folder, *common), folder)
        now = complete(folder)
        changed |= {trial for trial in kept if now.get(trial) != kept[trial]}
        audited = audit(folder)
        unfinished = sum(audited["states"].get(outcome, 0) for outcome in ("lost", "interrupted"))
        result = audited | {
            "what": f"{options.kills} kills of a sweep of {options.trials} trials, 2 workers",
            "complete": len(now),
            "complete trials lost or changed": sorted(changed),
            "figure": f"{len(now)} complete, {len(changed)} of them lost or changed; {unfinished} unfinished ones,"
            f" all but {len(audited['not retried once'])} retried once",
        }
    save("sweep-kills", "python -m benchmarks sweep_kills", result)
