"""The predictions of a classifier of Ultralytics of the files DIR/*/*, as a CSV file.

python ultralytics_predict.py best.pt DIR --size 64 --csv FILE
"""

import argparse
import csv
from pathlib import Path

from ultralytics import YOLO

AT_ONCE = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--csv", type=Path, required=True)
    options = parser.parse_args()
    model = YOLO(options.weights)
    files = sorted(map(str, options.folder.glob("*/*")))
    rows = [("file", "class")]
    for first in range(0, len(files), AT_ONCE):
        batch = files[first : first + AT_ONCE]
        results = model.predict(batch, imgsz=options.size, verbose=False)
        rows += [(file, result.names[result.probs.top1]) for file, result in zip(batch, results, strict=True)]
    with options.csv.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


if __name__ == "__main__":
    main()
