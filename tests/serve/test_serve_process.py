"""The server as a process: its page in a browser, bad files, many clients, how it starts and ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from bad_images import bad_files, encoded, odd_files, regular
from browser import Browser

from cifar.inference.model import load_model

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
MEMORY = 200
"""Megabytes by which bad files may raise the highest memory of the server. Bombs would need gigabytes."""


@dataclass
class Served:
    """A server that runs: its process, its address, the run that it serves."""

    process: subprocess.Popen[str]
    url: str
    run: Path
    client: httpx2.Client

    def post(self, content: bytes) -> httpx2.Response:
        headers = {"Content-Type": "image/png"}
        return self.client.post(self.url + "/predict", content=content, headers=headers)

    def peak(self) -> float:
        """The most memory that it has had, in megabytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1000


@pytest.fixture(scope="module")
def served(tiny_run: Path) -> Iterator[Served]:
    arguments = [sys.executable, "-m", "cifar.serve", str(tiny_run), "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        ready = next((line for line in process.stdout if line.startswith("10 classes")), "")
        assert ready, "it has ended"
        with httpx2.Client(trust_env=False, timeout=60) as client:
            yield Served(process, ready.split(" · ")[1], tiny_run, client)
    finally:
        process.kill()
        process.wait()


def test_bad_files_are_refused_and_cost_no_memory(served: Served, tmp_path: Path) -> None:
    served.post(encoded())
    before = served.peak()
    for path in regular(bad_files(tmp_path / "bad")):
        answer = served.post(path.read_bytes())
        assert answer.status_code in (400, 413) and answer.json().keys() == {"error"}, path
        assert "\n" not in answer.json()["error"] and "BytesIO" not in answer.json()["error"]
    for path in odd_files(tmp_path / "odd"):
        assert served.post(path.read_bytes()).json()["predictions"], path
    assert served.peak() - before < MEMORY
    assert served.post(encoded()).status_code == 200


def test_32_requests_at_once_are_all_answered(served: Served) -> None:
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(served.post, [encoded()] * 32))
    assert {answer.status_code for answer in answers} == {200}
    assert len({str(answer.json()["predictions"]) for answer in answers}) == 1


def test_a_client_that_sends_too_much_reads_why(served: Served) -> None:
    """Without a Content-Length, by a client that reads nothing before it has sent all."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST /predict HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked"
        connection.sendall(f"{head}\r\n\r\n".encode())
        for _ in range(25):
            connection.sendall(b"f4240\r\n" + bytes(10**6) + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(10**4).startswith(b"HTTP/1.1 413 ")


def wait_for_answers(browser: Browser, count: int) -> None:
    for _ in range(200):
        if browser.run("return document.querySelectorAll('.bars, .error').length") == count:
            return
        time.sleep(0.05)
    raise AssertionError(browser.run("return document.body.innerText"))


DROP = """
const {type, event, files} = arguments[0];
const data = new DataTransfer();
for (const [name, text] of files) data.items.add(new File([text], name, {type: "image/svg+xml"}));
document.dispatchEvent(new window[event](type, {dataTransfer: data, clipboardData: data, bubbles: true}));
"""


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_files_that_are_chosen_have_their_classes(
    width: int, dark: bool, served: Served, browser: Browser, tmp_path: Path
) -> None:
    good, bad = tmp_path / "<b>good.jpg", tmp_path / "bad.png"
    good.write_bytes(encoded("JPEG"))
    bad.write_bytes(b"cat")
    model = load_model(served.run, "cpu")
    (label,) = model.predict(model.read([good]))
    browser.open(served.url, width, dark)
    assert browser.console() == []
    browser.choose_files("#files", good, bad)
    wait_for_answers(browser, 2)
    texts = browser.run("return [...document.querySelectorAll('.result')].map(card => card.innerText)")
    assert "<b>good.jpg" in texts[0] and label in texts[0] and "%" in texts[0]
    assert "bad.png" in texts[1] and "not an image of a format that is read here" in texts[1]
    assert browser.run("return document.getElementById('status').textContent").startswith("bad.png: not an image")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    requests = [url for url in browser.requests() if not url.startswith("blob:")]
    assert all(url.startswith(served.url) for url in requests)
    (message,) = browser.console()  # the status of bad.png
    assert "400" in message


def test_without_javascript_a_form_has_the_answer(served: Served, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(encoded())
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(served.url)
        browser.choose_files("#files", tmp_path / "good.png")
        browser.click("button[type=submit]")
        page = browser.driver.page_source
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert '"predictions"' in page and "another web page" not in page


def test_files_may_be_dropped_pasted_and_too_large(served: Served, browser: Browser) -> None:
    browser.open(served.url)
    large = "x" * 20_000_001
    for event, files in (("DragEvent", [["a", "cat"], ["b", large]]), ("ClipboardEvent", [["c", "cat"]])):
        kind = {"DragEvent": "drop", "ClipboardEvent": "paste"}[event]
        browser.driver.execute_script(DROP, {"type": kind, "event": event, "files": files})
    wait_for_answers(browser, 3)
    texts = browser.run("return [...document.querySelectorAll('.result')].map(card => card.innerText)")
    assert [text.split()[-1] for text in texts][1:] == ["WEBP", "MB"] and "c\n" in texts[0]
    assert "20.0 MB; allowed: 20 MB" in texts[2]
    browser.click("#clear")
    assert browser.run("return document.querySelectorAll('.result').length") == 0
    assert browser.run("return document.activeElement.id") == "files"


OF_ANOTHER_PAGE = """
const [url, options, done] = arguments;
fetch(url, options).then(() => done("answered"), () => done("refused"));
"""


@pytest.mark.parametrize(("path", "method"), [("/model", "GET"), ("/predict", "POST")])
def test_another_page_cannot_use_it(path: str, method: str, served: Served, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<title>another page</title>")
    browser.open(tmp_path / "page.html")
    answer = browser.driver.execute_async_script(OF_ANOTHER_PAGE, served.url + path, {"method": method})
    assert answer == "refused"


def test_ctrl_c_ends_it_without_a_traceback(served: Served) -> None:
    served.process.send_signal(signal.SIGINT)
    text, _ = served.process.communicate(timeout=30)
    assert served.process.returncode == 130 and text == "interrupted\n"
