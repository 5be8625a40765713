"""The Optuna sweeper: `python run.py -m hydra/sweeper=optuna`. Imports no torch.

plugin.py    what Hydra sees: the typed settings and the Sweeper class (light: run.py imports it at every start)
space.py     what is searched: files of conf/search, the command line, and what a trial draws from them
study.py     the study that all workers share: who runs which trial, what became of it
worker.py    ask, run, tell, until the study has its total
lockstep.py  several runs of one worker, in turns
best.py      best.yaml, confirmed.yaml, from_study=DIR (light)
confirm.py   the best trials on fresh seeds, then the test set, once: `python run.py -m hydra/sweeper=confirm`
sweeper.py   the parent: check, launch the workers, show, sum up
"""
