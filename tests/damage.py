"""Ways to damage the content of a file."""

from __future__ import annotations


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def empty(content: bytes) -> bytes:
    return b""
