"""The body of an answer, of which only the beginning is read and unpacked."""

from __future__ import annotations

import zlib

import httpx

__all__ = ["MAX_ANSWER_BYTES", "read_answer"]

MAX_ANSWER_BYTES = 65_536
"""Capture answers with a few dozen bytes. No more than this is read or unpacked."""

_PACKED = ("gzip", "x-gzip", "deflate")
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


async def read_answer(response: httpx.Response) -> str:
    """Return the beginning of a body, as text.

    Requests ask for answers that are not compressed. Something in between may compress one anyway, and a few kilobytes
    can unpack to gigabytes, above all if they are packed twice. So this unpacks by itself, up to the same limit.

    Raises:
        httpx.TransportError: the connection broke.
        httpx.DecodingError: the body cannot be unpacked.
    """
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            break
    return _unpacked(response, bytes(body[:MAX_ANSWER_BYTES])).decode("utf-8", "replace")


def _unpacked(response: httpx.Response, body: bytes) -> bytes:
    packing = response.headers.get("Content-Encoding", "").strip().lower()
    if packing in ("", "identity") or not body:
        return body
    if packing not in _PACKED:
        raise httpx.DecodingError("the answer is compressed in a way that was not asked for")
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(body, MAX_ANSWER_BYTES)
    except zlib.error:
        raise httpx.DecodingError("the answer says that it is compressed, and cannot be unpacked") from None
