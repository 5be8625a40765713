"""What runs and sweeps wrote, and what can be concluded from it. Imports no torch, and nothing that trains.

frames.py        studies, trials, runs and epochs as tidy frames, read from a place
  schema.py      the columns of the frames
  trials.py      a study's trials and search spaces · runs.py: run directories · confirmation.py: fresh seeds and tests
  reading.py     files that may be damaged
scaling.py       hyperparameters as numbers in [0, 1]
surrogate.py     the score as a function of the hyperparameters, with its noise and its uncertainty
statistics/      what follows from the frames: one topic a file, each with its source
evidence.py      what the statistics say of a study, each computed once
answer.py        the answer in plain types · wording.py: in words
summary.py       the command: python -m analysis.summary sweeps/NAME
figures/         the frames as plotly figures · static.py: as SVG and PNG, without a browser
sections/        one file a section of the report: its numbers, its figure, its sentence
pages/           what a report of a study, of a run, of runs or of several places holds
render.py        a report as a page and as Markdown
report.py        the command: python -m analysis.report sweeps/NAME
*.ipynb          notebooks that call these
"""
