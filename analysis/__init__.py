"""What runs and sweeps wrote, and how far it can be trusted. Imports no torch, and nothing that trains.

Read:      frames.py        studies, trials, runs and epochs as tidy frames, read from a folder or a URL:
                            schema.py their columns, trials.py a study's trials and spaces, runs.py run directories,
                            confirmation.py fresh seeds and the test set, reading.py files that may be damaged
           predictions.py   what a run predicts image by image, and its few images
           architecture.py  the model of a run
Compute:   scaling.py       hyperparameters as places in [0, 1]
           surrogate.py     the score as a function of the hyperparameters, with its noise and its uncertainty
           statistics/      what follows from the frames, a file a topic: each a short function, with its source;
                            cifar/intervals.py: their intervals
           evidence.py      the statistics of one study, each computed once
           answer.py        the answer of a search in plain types
           scores.py        the scores and costs of trials and runs
Show:      wording.py       the answer in words; cifar/formatting.py: numbers as texts
           summary.py       the answer in the terminal: python -m analysis.summary sweeps/NAME
           figures/         the frames as plotly figures, a file a topic
           static.py        a plotly figure as SVG and PNG, without a browser
           sections/        the sections of a report, a file each
           pages/           what a report of a study, of runs, of a run or of several of these says and shows
           render.py        it as a page and as Markdown
           packages.py      the packages that a report needs
           report.py        the command: python -m analysis.report sweeps/NAME
           *.ipynb          notebooks that call these
"""
