"""What runs and sweeps wrote, and what can be believed of it. Imports no torch, and nothing that trains.

frames.py      studies, trials, runs and epochs as tidy frames
surrogate.py   the score as a function of the hyperparameters, with its noise and its uncertainty
statistics/    what follows from the frames, a file a topic: each a short function, with its source
architecture.py  the model of a run
formatting.py  numbers as texts
summary.py     the answer in the terminal: python -m analysis.summary sweeps/NAME
figures.py     the frames as plotly figures
static.py      a plotly figure as SVG and PNG, without a browser
pages.py       what a report of a study, of runs or of several sweeps says and shows
report.py      it as a page and as Markdown: python -m analysis.report sweeps/NAME
*.ipynb        notebooks that call these
"""
