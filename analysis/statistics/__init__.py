"""What follows from the frames, one topic a file. Each function takes and returns frames and names its source.

Scores are shares of 1, larger is better. Intervals (columns low and high) are 95% intervals. What a search alone can
say comes from its surrogate: `model.surrogate_of` builds it. Nothing is listed here: import the topic that you need,
and to add a statistic add a file.
"""
