"""The web application: the page, POST /predict, GET /model and GET /health. Every error is JSON: {"error": "..."}."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from cifar import html
from cifar.serve.address import Hosts
from cifar.serve.bodies import FIELD, Bodies, form_images
from cifar.serve.guard import Guard
from cifar.serve.limits import BODY_SECONDS
from cifar.serve.model_facts import model_facts
from cifar.serve.predictor import BadImage, Predictor

FOLDER = Path(__file__).parent
FORM = "multipart/form-data"
PATHS = ("/", "/predict", "/model", "/health")
UNTYPED = "application/octet-stream"
ERROR = "an error of the server; its terminal shows it"


def make_app(
    predictor: Predictor, hosts: Hosts, top: int = 5, max_megabytes: float = 20, body_seconds: float = BODY_SECONDS
) -> Starlette:
    """The application for one model. `top`: how many classes an answer has, unless the request says otherwise."""
    bodies = Bodies(int(max_megabytes * 1e6), body_seconds)
    marker = predictor.marker
    facts = model_facts(predictor.model, max_megabytes) | {"marks": list(marker.lines), "reliability": marker.facts()}
    routes = [
        Route("/", page(facts)),
        Route("/page.css", asset(html.STYLE + (FOLDER / "page.css").read_text("utf-8"), "text/css")),
        Route("/page.js", asset((FOLDER / "page.js").read_text("utf-8"), "text/javascript")),
        Route("/predict", Predict(bodies, predictor, top).answer, methods=["POST"]),
        Route("/model", lambda request: JSONResponse(facts)),
        Route("/health", lambda request: JSONResponse({"status": "ok", "waiting": predictor.waiting})),
    ]
    handlers: dict[Any, Callable[..., Response]] = {
        HTTPException: lambda request, error: failed(error.status_code, error.detail, error.headers),
        404: lambda request, error: failed(404, f"{request.url.path[:100]}: not found; allowed: {', '.join(PATHS)}"),
        405: lambda request, error: failed(
            405, f"{request.method[:20]}; allowed: {error.headers['Allow']}", error.headers
        ),
        ClientDisconnect: lambda request, error: failed(400, "the client closed the connection"),
        Exception: lambda request, error: failed(500, ERROR),
    }
    return Starlette(routes=routes, middleware=[Middleware(Guard, hosts=hosts)], exception_handlers=handlers)


class Predict:
    """POST /predict."""

    def __init__(self, bodies: Bodies, predictor: Predictor, top: int) -> None:
        self.bodies = bodies
        self.predictor = predictor
        self.top = top

    async def answer(self, request: Request) -> Response:
        """For an image as the body: its prediction. For a form: {"images": [...]}, and of one image its own fields."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != FORM and kind != UNTYPED and not kind.startswith("image/"):
            raise HTTPException(
                415,
                f"Content-Type: {kind[:100] or 'none'}; allowed: image/* with the image as the body, or {FORM} with"
                f" files in the field {FIELD}, as: curl -F {FIELD}=@cat.jpg",
            )
        top = self._top(request.query_params.get("top"))
        async with self.bodies.read(request) as body:
            with self.predictor.place():
                if kind != FORM:
                    return await self._one(body, top)
                async with form_images(request, body) as images:
                    return await self._several(images, top)

    def _top(self, text: str | None) -> int:
        if text is None:
            return self.top
        if not (text.isascii() and text.isdigit() and len(text) < 7 and int(text)):
            raise HTTPException(400, f"top={text[:20]}; allowed: an integer from 1")
        return int(text)

    async def _one(self, content: bytes, top: int) -> Response:
        try:
            return JSONResponse(await self.predictor.predict(content, top))
        except BadImage as error:
            return failed(error.status, str(error))

    async def _several(self, files: list[UploadFile], top: int) -> Response:
        results: list[dict[str, Any]] = []
        status = 200
        for file in files:
            try:
                prediction = await self.predictor.predict(await file.read(), top)
            except BadImage as error:
                prediction, status = {"error": str(error)}, error.status
            results.append({"name": file.filename} | prediction)
        if len(results) > 1:
            return JSONResponse({"images": results})
        return JSONResponse(results[0] | {"images": results}, status)


def page(facts: dict[str, Any]) -> Callable[[Request], Response]:
    """The page, with the address by which the browser calls it in the commands."""
    loader = jinja2.FileSystemLoader(FOLDER)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.get_template("page.html.jinja")
    return lambda request: HTMLResponse(template.render(model=facts, url=str(request.base_url).rstrip("/")))


def asset(text: str, kind: str) -> Callable[[Request], Response]:
    return lambda request: Response(text, media_type=kind)


def failed(status: int, message: str, headers: Any = None) -> Response:
    return JSONResponse({"error": message}, status, headers)
