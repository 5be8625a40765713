"""Augmentation: drawn for a whole epoch from a generator, applied in batches on the device that holds the images.

draws.py       the random generator of an epoch
crop_flip.py   crops and flips, of images that lie on the device with a border
operations.py  operations on pixels, as `rotate` or `solarize`: one function and one line of a table each
policies.py    which operations an image goes through: TrivialAugment, RandAugment
erase.py       random rectangles are erased
mix.py         mixup and cutmix, of images and labels
pieces.py      what one run does, from its settings
views.py       augmented copies of a data set, for frozen features
"""
