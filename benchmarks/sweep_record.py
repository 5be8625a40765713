"""A pool of full learning curves at random settings, for sweep_replay; resumes where it was stopped.

python -m benchmarks sweep_record --trials 100 data=image_folder data.root=DIR data.limit=5000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json

from benchmarks.common import RESULTS, machine

ROOT = Path(__file__).parent.parent
POOL = RESULTS / "pool.json"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sweep_record", description=__doc__)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--study", type=Path, default=Path("sweeps/pool"))
    parser.add_argument("overrides", nargs="*", help="of run.py: the data, the model, hydra.sweeper.n_jobs")
    options = parser.parse_args(argv)
    fixed = ["hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=0", "hydra/sweeper/pruner=none"]
    place = [f"hydra.sweep.dir={options.study}", "hydra.sweeper.study_name=pool", "hydra.sweeper.max_failure_rate=1"]
    total = f"hydra.sweeper.n_trials={options.trials}"
    command = [sys.executable, "run.py", "-m", "hydra/sweeper=optuna", *fixed, *place, total, *options.overrides]
    subprocess.run(command, cwd=ROOT, check=True)
    pool = export(ROOT / options.study)
    document = {"command": " ".join(["python -m benchmarks sweep_record", *argv]), "machine": machine()} | pool
    RESULTS.mkdir(exist_ok=True)
    POOL.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(f"{len(pool['curves'])} curves in {POOL}")


def export(study: Path) -> dict[str, Any]:
    """The distributions, and of each trial its parameters and accuracies by epoch; those of a failed one end early."""
    storage = f"sqlite:///{study}/study.db"
    trials = optuna.load_study(study_name="pool", storage=storage).get_trials()
    ended = [t for t in trials if t.state.is_finished() and t.user_attrs.get("outcome") not in ("lost", "interrupted")]
    return {
        "distributions": {key: distribution_to_json(d) for key, d in ended[0].distributions.items()},
        "curves": [
            {"params": t.params, "accuracy": [t.intermediate_values[e] for e in sorted(t.intermediate_values)]}
            for t in ended
        ],
    }
