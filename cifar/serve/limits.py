"""How much a client may ask for. They bound the memory and the time that strangers can use."""

from __future__ import annotations

MAX_PIXELS = 50_000_000
"""Of one image. Decoding was measured to take 8 (RGB), 16 (transparent) to 35 bytes a pixel (16 bits, floats): at most
1.8 GB, as one image is decoded at a time."""
MAX_IMAGES = 100
"""In one request."""
MAX_WAITING = 32
"""Requests that wait for the model; further ones are refused."""
BODIES_AT_ONCE = 8
"""Bodies of the allowed size that are in memory at the same time, of all requests together."""
BODY_SECONDS = 30.0
"""In which the body of a request has to arrive."""
HEADER_SECONDS = 10.0
"""In which the first line and the headers of a request have to arrive."""
HEADER_BYTES = 16 * 1024
MAX_CONNECTIONS = 200
DISCARDED_BYTES = 64 * 10**6
"""Of a body that is too large. They are read and discarded, so that the client reads the answer, not a closed pipe."""
