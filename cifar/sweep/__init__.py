"""The Optuna sweeper: `python run.py -m hydra/sweeper=optuna`. Imports no torch.

plugin.py    what Hydra sees: the typed settings and the Sweeper class (light: run.py imports it at every start)
space.py     what is searched: files of conf/search, the command line, and what a trial draws from them
study.py     the study that all workers share: who runs which trial, what became of it
worker.py    ask, run, tell, until the study has its total
best.py      best.yaml, and from_study=DIR (light)
sweeper.py   the parent: check, launch the workers, show, sum up
"""
