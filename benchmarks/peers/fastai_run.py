"""fastai on a folder with train/, val/ and test/: resnet18, fit_one_cycle, aug_transforms; its predictions of the test.

python fastai_run.py DIR --minutes 10 --size 64 --seed 0 --csv FILE

fastai takes epochs and no time: an epoch is timed first, which does not count, and as many are trained as fit.
"""

import argparse
import csv
import time
from pathlib import Path

from fastai.vision.all import (
    ImageDataLoaders,
    Learner,
    Resize,
    accuracy,
    aug_transforms,
    get_image_files,
    resnet18,
    set_seed,
    vision_learner,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--epochs", type=int, help="in place of what fits into the minutes")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, required=True)
    options = parser.parse_args()
    epochs = options.epochs or max(1, round(60 * options.minutes / seconds_of_an_epoch(options)))
    learn = learner(options)
    start = time.perf_counter()
    learn.fit_one_cycle(epochs)
    print(f"trained: {epochs} epochs in {time.perf_counter() - start:.1f} s", flush=True)
    files = get_image_files(options.folder / "test")
    probabilities, _ = learn.get_preds(dl=learn.dls.test_dl(files))
    names = [learn.dls.vocab[index] for index in probabilities.argmax(dim=1).tolist()]
    with options.csv.open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "class"), *zip(files, names, strict=True)])


def learner(options: argparse.Namespace) -> Learner:
    set_seed(options.seed)
    data = ImageDataLoaders.from_folder(
        options.folder, train="train", valid="val", item_tfms=Resize(options.size), batch_tfms=aug_transforms()
    )
    return vision_learner(data, resnet18, pretrained=False, metrics=accuracy)


def seconds_of_an_epoch(options: argparse.Namespace) -> float:
    learn = learner(options)
    start = time.perf_counter()
    learn.fit_one_cycle(1)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
