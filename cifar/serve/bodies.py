"""The bodies of requests, read within limits of size, memory and time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from cifar.serve.limits import BODIES_AT_ONCE, BODY_SECONDS, DISCARDED_BYTES, MAX_IMAGES

FIELD = "image"
"""The field of a form that holds images."""


def busy(what: str) -> HTTPException:
    return HTTPException(503, f"busy: {what}; send it again in a second", {"Retry-After": "1"})


class Bodies:
    """Reads a body of at most `max_bytes`; those of all requests together are bounded too."""

    def __init__(self, max_bytes: int, seconds: float = BODY_SECONDS) -> None:
        self.max_bytes = max_bytes
        self.seconds = seconds
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body, which counts as held within the block. Raises HTTPException 408, 413 or 503."""
        content = bytearray()
        try:
            await self._read_in_time(content, request)
            yield bytes(content)
        finally:
            self.held -= len(content)

    async def _read_in_time(self, content: bytearray, request: Request) -> None:
        try:
            with anyio.fail_after(self.seconds):
                await self._read_into(content, request)
        except TimeoutError:
            raise HTTPException(408, f"the request took longer than {self.seconds:g} seconds to arrive") from None

    async def _read_into(self, content: bytearray, request: Request) -> None:
        size = 0
        declared = _declared(request)
        refusal = self._refusal(declared)
        is_waiting = "expect" in request.headers  # the client, before it sends the body
        if refusal and (is_waiting or declared > self.max_bytes + DISCARDED_BYTES):
            raise refusal
        async for chunk in request.stream():
            size += len(chunk)
            refusal = refusal or self._refusal(size, len(chunk))
            if refusal is None:
                content += chunk
                self.held += len(chunk)
                continue
            self.held -= len(content)  # at once, so that the other requests have this memory
            content.clear()
            if size > self.max_bytes + DISCARDED_BYTES:
                break
        if refusal:
            raise refusal

    def _refusal(self, size: int, more: int = 0) -> HTTPException | None:
        """Why a body of this size is not read, of which `more` bytes would be held in addition."""
        if size > self.max_bytes:
            return HTTPException(413, f"more than {self.max_bytes / 1e6:g} MB; allowed: --max-megabytes sets it")
        if self.held + more > self.max_bytes * BODIES_AT_ONCE:
            return busy("it receives too many images at once")
        return None


def _declared(request: Request) -> int:
    """The size of the body, as the client says; 0 where it does not."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


@asynccontextmanager
async def form_images(request: Request, body: bytes) -> AsyncIterator[list[UploadFile]]:
    """The images in a form (multipart/form-data), for the duration of the block. Raises HTTPException."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, chunks(), max_files=MAX_IMAGES, max_fields=MAX_IMAGES).parse()
    except MultiPartException as error:
        raise HTTPException(400, f"not a form that can be read ({error.message})") from None
    try:
        images = [value for value in form.getlist(FIELD) if isinstance(value, UploadFile)]
        if not images:
            raise HTTPException(400, f"no file in field {FIELD}; as: curl -F {FIELD}=@cat.jpg")
        yield images
    finally:
        await form.close()
