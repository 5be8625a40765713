"""What runs and sweeps wrote, and what it shows. Imports no torch, and nothing that trains.

Read:      frames.py, architecture.py   studies, trials, runs and epochs as tidy frames; the model of a run
Compute:   surrogate.py                 the score as a function of the hyperparameters, with noise and uncertainty
           statistics/                  what follows from the frames: one topic a file, each with its source
           evidence.py, answer.py       the statistics of one study, each computed once; its answer in plain types
           scores.py                    the scores and costs of trials and runs
Show:      formatting.py, wording.py    numbers and the answer as text
           summary.py                   the answer in the terminal: python -m analysis.summary sweeps/NAME
           figures/                     the frames as plotly figures: one topic a file
           static.py                    a plotly figure as SVG and PNG, without a browser
           sections/                    the sections of a report: one section a file
           pages/                       the report of a study, of runs, of a run, of several of these
           render.py, report.py         it as a page and as Markdown: python -m analysis.report sweeps/NAME
           *.ipynb                      notebooks that call these
"""
