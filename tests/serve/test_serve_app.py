"""The page and the HTTP API in this process: answers, refusals, limits."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from bad_images import encoded, png
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from cifar.inference.model import Model, load_model
from cifar.serve.address import Hosts, hosts, is_everywhere, listen, url
from cifar.serve.app import make_app
from cifar.serve.predictor import Predictor
from cifar.serve.server import TimedProtocol, make_server

HOSTS = hosts("127.0.0.1", 8000, ["model.lab", "tunnel:9000"])
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> Model:
    return load_model(tiny_run, "cpu")


@pytest.fixture(scope="module")
def client(model: Model) -> TestClient:
    app = make_app(Predictor(model), HOSTS, top=3, max_megabytes=0.2)
    return TestClient(app, "http://localhost:8000", raise_server_exceptions=False)


def expected(model: Model, content: bytes, folder: Path) -> list[tuple[str, float]]:
    """Classes and probabilities of an image, best first, as the Python API gives them."""
    (folder / "image").write_bytes(content)
    probabilities = model.probabilities(model.read([folder / "image"]))[0].tolist()
    return sorted(zip(model.classes, probabilities, strict=True), key=lambda row: -row[1])


def rows(answer: dict[str, Any]) -> list[tuple[str, float]]:
    return [(row["class"], pytest.approx(row["probability"])) for row in answer["predictions"]]


def test_an_image_is_answered_as_by_the_python_api(client: TestClient, model: Model, tmp_path: Path) -> None:
    content = encoded("JPEG")
    wanted = expected(model, content, tmp_path)
    assert rows(client.post("/predict", content=content, headers=PNG).json()) == wanted[:3]
    assert rows(client.post("/predict?top=99", content=content, headers=PNG).json()) == wanted
    single = client.post("/predict", files={"image": ("../../etc/passwd", content)}).json()
    assert rows(single) == wanted[:3] and single["images"][0]["name"] == "../../etc/passwd"


def test_a_bad_file_among_several_has_an_error_and_the_others_an_answer(client: TestClient) -> None:
    files = [("image", ("a.png", encoded())), ("image", ("b.png", b"cat")), ("image", ("c.png", b""))]
    answer = client.post("/predict", files=files)
    first, second, third = answer.json()["images"]
    assert answer.status_code == 200 and first["predictions"] and "error" not in first
    assert first["unsure"] in (True, False, None) and first["distance"] >= 0 and "unlike" in first
    assert "not an image of a format" in second["error"] and "empty" in third["error"]


def test_the_model_and_the_health_are_told(client: TestClient, model: Model) -> None:
    answer = client.get("/model").json()
    assert answer["classes"] == list(model.classes) and answer["size"] == 32 and answer["calibrated"] is True
    assert answer["accuracy"]["validation"].keys() == {"accuracy", "images"}
    assert client.get("/health").json()["status"] == "ok"


def test_the_page_allows_no_other_place(client: TestClient) -> None:
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["referrer-policy"] == "same-origin"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert " on" + "click" not in answer.text and "<style" not in answer.text and "<script>" not in answer.text
    assert client.get("/page.css").text.startswith(":root") and "fetch(" in client.get("/page.js").text


WIDE = png(8000, 8000)
"""64 million pixels."""
BOMB = png(50000, 50000)


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status", "phrase"),
    [
        ("POST", "/predict", PNG, b"", 400, "the file is empty"),
        (
            "POST",
            "/predict",
            PNG,
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9\n",
            400,
            "not an image of a format",
        ),
        ("POST", "/predict", PNG, encoded()[:200], 400, "not an image that can be decoded"),
        ("POST", "/predict", PNG, WIDE, 413, "8000x8000 pixels, 64 million; allowed: 50 million"),
        ("POST", "/predict", PNG, BOMB, 413, "too many pixels"),
        ("POST", "/predict", PNG, bytes(300_000), 413, "more than 0.2 MB"),
        ("POST", "/predict", {"Content-Type": "text/plain"}, b"cat", 415, "Content-Type: text/plain; allowed: image/*"),
        ("POST", "/predict", {}, b"cat", 415, "Content-Type: none"),
        ("POST", "/predict", {"Content-Type": "multipart/form-data"}, b"cat", 400, "not a form"),
        ("POST", "/predict", {"Content-Type": "multipart/form-data; boundary=x"}, b"--x--\r\n", 400, "field image"),
        ("POST", "/predict?top=0", PNG, b"", 400, "top=0; allowed"),
        ("POST", "/predict?top=-1e9", PNG, b"", 400, "top=-1e9; allowed"),
        ("GET", "/predict", {}, b"", 405, "GET; allowed: POST"),
        ("DELETE", "/model", {}, b"", 405, "DELETE; allowed: "),
        ("GET", "/../../etc/passwd", {}, b"", 404, "not found; allowed: /, /predict"),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", {}, b"", 404, "not found"),
    ],
    ids=lambda value: None if isinstance(value, (bytes, dict)) else str(value),
)
def test_what_is_refused(
    method: str, path: str, headers: dict[str, str], content: bytes, status: int, phrase: str, client: TestClient
) -> None:
    answer = client.request(method, path, headers=headers, content=content)
    assert answer.status_code == status and answer.json().keys() == {"error"} and phrase in answer.json()["error"]
    assert "remove the file" not in answer.json()["error"], "the server has none"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8000"}, 421),
        ({"Host": "127.0.0.1:8001"}, 421),
        ({"Host": "localhost:8000@evil.example"}, 421),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "LOCALHOST:8000", "Origin": "http://localhost:8000"}, 200),
        ({"Host": "model.lab:1234", "Origin": "https://model.lab:1234"}, 200),
        ({"Host": "tunnel:9001"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
    ids=str,
)
def test_who_may_post(headers: dict[str, str], status: int, client: TestClient) -> None:
    assert client.post("/predict", content=encoded(), headers=PNG | headers).status_code == status


def test_a_server_for_all_addresses_is_called_by_any_address_and_by_no_other_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everywhere: Hosts = hosts("0.0.0.0", 8000, [])
    assert everywhere.allow("192.168.1.5:8000") and everywhere.allow("[fe80::1]:8000")
    assert not everywhere.allow("evil.example:8000") and not everywhere.allow("192.168.1.5:80")
    assert not HOSTS.allow("192.168.1.5:8000") and not HOSTS.allow("")
    assert is_everywhere("::") and url("0.0.0.0", 80) == "http://127.0.0.1:80" and url("::1", 80) == "http://[::1]:80"
    for both, page in ((True, "http://127.0.0.1:80"), (False, "http://[::1]:80")):
        monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda both=both: both)
        assert url("::", 80) == page


@pytest.mark.parametrize("both", [True, False])
def test_a_server_for_all_addresses_answers_both_kinds(both: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: both)
    monkeypatch.setattr(socket, "create_server", lambda address, **settings: asked.update(settings))
    listen("::", 8000)
    assert (asked["family"], asked["dualstack_ipv6"]) == (socket.AF_INET6, both)
    listen("127.0.0.1", 8000)
    assert (asked["family"], asked["dualstack_ipv6"]) == (socket.AF_INET, False)


def chunked(client: TestClient, content: bytes, size: int = 10_000) -> httpx2.Response:
    """Posted without a Content-Length."""
    pieces = (content[start : start + size] for start in range(0, len(content), size))
    return client.post("/predict", content=pieces, headers=PNG)


def test_a_body_of_unknown_length_is_limited_too(client: TestClient) -> None:
    assert chunked(client, encoded()).status_code == 200
    assert chunked(client, bytes(300_000)).status_code == 413


def test_no_more_wait_than_there_are_places(model: Model) -> None:
    predictor = Predictor(model, max_waiting=1)
    with predictor.place(), pytest.raises(HTTPException) as refusal, predictor.place():
        pass
    assert refusal.value.status_code == 503 and refusal.value.headers == {"Retry-After": "1"}
    assert predictor.waiting == 0


def test_bodies_of_all_requests_together_are_bounded(client: TestClient, model: Model) -> None:
    """Each of nine requests sends nearly all of what one may send, and then waits: the ninth is refused."""

    async def post(app: Any, waits: asyncio.Event, full: asyncio.Event) -> int:
        messages = [{"type": "http.request", "body": bytes(190_000), "more_body": True}]
        statuses: list[int] = []

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await waits.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            statuses.extend([message["status"]] if "status" in message else [])
            full.set()

        headers = [(b"host", b"localhost:8000"), (b"content-type", b"image/png")]
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b""}
        await app(scope, receive, send)
        return statuses[0]

    async def post_all(seconds: float) -> list[int]:
        waits, full = asyncio.Event(), asyncio.Event()
        app = make_app(Predictor(model), HOSTS, max_megabytes=0.2, body_seconds=seconds)
        posts = [asyncio.create_task(post(app, waits, full)) for _ in range(9)]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, waits.set) if seconds > 1 else None
        return sorted(await asyncio.gather(*posts))

    assert asyncio.run(post_all(30)) == [*[400] * 8, 503]
    assert asyncio.run(post_all(0.1)) == [408] * 9  # none of them sends the rest


class Hasty(TimedProtocol):
    header_seconds = 0.2


@contextmanager
def serving(model: Model) -> Iterator[tuple[str, int]]:
    """A server in a thread: its address."""
    with listen("127.0.0.1", 0) as listening:
        host, port = listening.getsockname()
        server = make_server(make_app(Predictor(model), hosts(host, port, [])), Hasty)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield host, port
        finally:
            server.should_exit = True
            thread.join()


def test_a_client_that_sends_its_headers_slowly_is_disconnected(model: Model) -> None:
    with serving(model) as address, socket.create_connection(address, timeout=30) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\n")
        answer = httpx2.get(f"http://127.0.0.1:{address[1]}/health", trust_env=False)
        assert answer.json()["status"] == "ok"
        assert slow.recv(100) == b""


def test_a_defect_is_an_error_as_json(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(images: torch.Tensor) -> torch.Tensor:
        raise KeyError("a defect")

    app = make_app(Predictor(model), HOSTS)
    monkeypatch.setattr(type(model), "assess", lambda self, images: fail(images))
    client = TestClient(app, "http://localhost:8000", raise_server_exceptions=False)
    answer = client.post("/predict", content=encoded(), headers=PNG)
    assert answer.status_code == 500 and "its terminal shows it" in answer.json()["error"]
