"""What the command says before it serves, and what is known of the model."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest
import torch
import uvicorn

from cifar.data.preprocessing import InputFormat
from cifar.errors import UserError
from cifar.inference.chosen import Chosen
from cifar.inference.model import ExportedModel, Model
from cifar.serve import __main__ as command
from cifar.serve.address import listen
from cifar.serve.model_facts import model_facts


def test_the_command_prints_the_model_and_the_url(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: None)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    command.main([str(tiny_run), "--host", "0.0.0.0", "--port", "0", "--device", "cpu", "--open"])
    name, unsure, unlike, warning, last = capsys.readouterr().out.splitlines()[-5:]
    assert name == str(tiny_run / "best.pt") and "no passwords" in warning
    assert unsure.startswith("unsure: ") and unlike.startswith("unlike training: ")
    assert last == f"10 classes · {opened[0]} · Ctrl-C ends it" and opened[0].startswith("http://127.0.0.1:")


def test_a_model_that_cannot_answer_is_seen_before_the_url_is_printed(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(model: Model, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Model, "probabilities", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        command.main([str(tiny_run), "--port", "0", "--device", "cpu"])
    assert capsys.readouterr().out == ""


def exported(folder: Path, **metadata: str) -> ExportedModel:
    chosen = Chosen(folder / "model.onnx", "chosen", folder / "study")
    temperature = float(metadata["temperature"]) if "temperature" in metadata else None
    return ExportedModel(chosen, ("a", "b"), InputFormat(), temperature, metadata, session=None)


def test_an_exported_model_says_what_it_knows(tmp_path: Path) -> None:
    answer = model_facts(exported(tmp_path, validation_accuracy="0.75", temperature="1.2"), 20)
    assert answer["accuracy"] == {"validation": {"accuracy": 0.75, "images": None}} and answer["calibrated"] is True
    assert answer["name"] == "study" and answer["reason"] == "chosen"


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"best": ["of another program"]}')
    answer = model_facts(exported(tmp_path, validation_accuracy="good"), 20)
    assert answer["accuracy"] == {} and answer["calibrated"] is False


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PACKAGES", ("not_installed",))
    with pytest.raises(UserError, match=r"cifar.serve: not_installed is not installed; do: pip install .*serve\]"):
        command.main(["run"])


@pytest.mark.parametrize("option", ["--port=70000", "--top=0", "--max-megabytes=none"])
def test_a_wrong_option_says_what_is_allowed(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["run", option])
    assert "allowed: " in capsys.readouterr().err


def test_an_address_that_is_not_free_is_one_error_before_the_model_is_loaded() -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port {port}: in use by another program.*--port {port + 1}"):
            command.main(["never read", "--port", str(port)])
    with pytest.raises(UserError, match=r"--host nowhere\.invalid: cannot listen there"):
        command.main(["never read", "--host", "nowhere.invalid"])
