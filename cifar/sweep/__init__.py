"""A sweeper for any Hydra app: `python APP.py -m hydra/sweeper=optuna`. Knows nothing of images, imports no torch.

plugin.py          what Hydra sees: the settings and the Sweeper classes (light: apps import it at every start)
app.py             what an app may tell the sweeper of itself (light)
values.py          the values of hyperparameters, as Hydra reads them and as a study holds them
components.py      sampler, pruner and custom search space, built and checked
space.py           what is searched: files of conf/search, the command line, and what a trial draws from them
names.py           the name of a study, where the command line gives none
rehearsal.py       trials composed and checked before the first one runs
fixed.py           the settings that no trial changes
plan.py            settings, space, fixed settings and name, checked before the study is opened
launch.py          the parent process: launches the workers
progress.py        what it shows meanwhile
outcome.py         best.yaml, and whether the search is complete
storage.py         Optuna storages, opened from a URL or a folder
stored.py          what a stored study holds, and whether a search can continue with it
adoption.py        trials that were in a study before its first search
study.py           the study that all workers share: who runs which trial, and how it ended
content.py         what the trials of a study are trained on
trials.py          how trials are counted
worker.py          ask, run, tell, until the study has its total
heartbeat.py       shows that a worker is alive
reporter.py        what a trial's run reports
lockstep.py        several runs of one worker, in turns
logs.py            a log file for each trial
confirm.py         the best trials on fresh seeds, then the test set, once: `python APP.py -m hydra/sweeper=confirm`
optuna_private.py  the private names of Optuna, Hydra and hydra-optuna-sweeper
"""
