"""What runs and sweeps wrote, and how far it can be trusted. Imports no torch, and nothing that trains.

frames.py      studies, trials, runs and epochs as tidy frames, read from a folder or a URL:
               schema.py their columns, trials.py a study's trials and spaces, runs.py run directories,
               confirmation.py fresh seeds and the test set, reading.py files that may be damaged
scaling.py     hyperparameters as places in [0, 1]
surrogate.py   the score as a function of the hyperparameters, with its noise and its uncertainty
statistics/    what follows from the frames, a file a topic: each a short function, with its source
evidence.py    the statistics of one study, each computed once
answer.py      the answer of a search in plain types; wording.py in words
summary.py     the answer in the terminal: python -m analysis.summary sweeps/NAME
architecture.py  the model of a run
formatting.py  numbers as texts
figures.py     the frames as plotly figures
static.py      a plotly figure as SVG and PNG, without a browser
pages.py       what a report of a study, of runs or of several sweeps says and shows
report.py      it as a page and as Markdown: python -m analysis.report sweeps/NAME
*.ipynb        notebooks that call these
"""
