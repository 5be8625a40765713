"""Try a trained model in the browser: drop an image, see its classes with their probabilities.

python -m cifar.serve sweeps/NAME              # a study: its confirmed trial, else its best one
python -m cifar.serve outputs/DATE/TIME        # a run; or its best.pt, a bundle, an exported model.onnx

Programs ask it by HTTP:

curl -F image=@cat.jpg http://127.0.0.1:8000/predict
curl -H 'Content-Type: image/jpeg' --data-binary @cat.jpg 'http://127.0.0.1:8000/predict?top=3'
curl http://127.0.0.1:8000/model

The answer is {"predictions": [{"class": "cat", "probability": 0.93}, ...], "unsure": false, ...}, where null
is not known; an error is {"error": "..."} with status 400 (no image), 413 (too large), 415 (Content-Type) or 503
(busy). Only this machine can reach it, unless --host says otherwise: it has no passwords. Ctrl-C ends it.
"""

from __future__ import annotations

from cifar import endings

if __name__ == "__main__":
    endings.prepare()

import argparse

from cifar import trust
from cifar.commands import as_started, module_command
from cifar.inference.arguments import (
    EXPORTED,
    TRAINED,
    add_device,
    add_max_error,
    add_place,
    add_trust,
    number,
    positive,
    whole,
)
from cifar.packages import require

PACKAGES = ("starlette", "uvicorn", "python_multipart")
"""Of the extra "serve"."""


def main(argv: list[str]) -> None:
    options = parser().parse_args(argv)
    require(module_command("cifar.serve"), "serve", *PACKAGES)
    trust.grant(options.trust)
    # Imported late: --help and wrong options are answered at once.
    from cifar.serve.address import hosts, is_everywhere, listen, url

    with listen(options.host, options.port) as listening:
        port = listening.getsockname()[1]
        from cifar.inference.model import load_model
        from cifar.serve.app import make_app
        from cifar.serve.predictor import Predictor
        from cifar.serve.server import make_server

        model = load_model(options.place, options.device)
        predictor = Predictor(model, max_error=options.max_error)
        predictor.warm_up()
        app = make_app(predictor, hosts(options.host, port, options.allowed_host), options.top, options.max_megabytes)
        print(model.chosen.reason or model.chosen.file, *predictor.marker.lines, sep="\n", flush=True)
        if is_everywhere(options.host):
            print("everyone who can reach this machine can use it, as it has no passwords", flush=True)
        print(f"{len(model.classes)} classes · {url(options.host, port)} · Ctrl-C ends it", flush=True)
        if options.open:
            open_browser(url(options.host, port))
        make_server(app).run([listening])


def open_browser(url: str) -> None:
    import webbrowser

    webbrowser.open(url)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog=module_command("cifar.serve"),
        description=as_started(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = options.add_argument
    add_place(options, *TRAINED, *EXPORTED)
    add("--host", default="127.0.0.1", help="the address to listen at (127.0.0.1); 0.0.0.0: all of this machine")
    add("--port", type=whole(0, 65535), default=8000, help="from 0 to 65535 (8000); 0: any free one, which is printed")
    name = "a name by which browsers call it, besides localhost and --host; without a port: with any"
    add("--allowed-host", metavar="NAME[:PORT]", action="append", default=[], help=name)
    add_device(options)
    add("--top", type=positive, default=5, help="classes in an answer, from 1 (5)")
    add("--max-megabytes", type=_megabytes, default=20.0, help="of one request, above 0 (20)")
    add_max_error(options)
    add_trust(options)
    add("--open", action="store_true", help="open the page in the browser")
    return options


def _megabytes(text: str) -> float:
    return number(text, lambda value: 0 < value <= 1000, "a number above 0, at most 1000")


if __name__ == "__main__":
    endings.run(main)
