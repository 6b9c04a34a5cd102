"""Manifests of Kubernetes Secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llma_core.redaction.places import Found, matches_at
from llma_core.redaction.values import VALUE_REACH, as_text, is_placeholder

__all__ = ["MANIFEST_HINT", "manifests_in"]

_MANIFEST = re.compile(rb"""kind\\{0,63}["']?[ \t]{0,4}:[ \t]{0,4}\\{0,63}["']?secret\\{0,63}["']?(?=\s|,|\\|\}|\Z)""")
_MANIFEST_REACH = 16 * 1024
_DOCUMENT = re.compile(rb"(?:\n|\\n)---")
_DATA = re.compile(
    rb"""(?:\A|[\n{,]|\\n)[ \t\\"']{0,72}(?:string)?data\\{0,63}["']?[ \t]{0,4}:[ \t]{0,4}"""
    rb"""(?:\{[\s\\n]{0,80}|\r?\n|\\{1,63}n)""",
    re.IGNORECASE,
)
_DATUM = re.compile(
    rb"""[ \t\\"']{1,72}[\w.-]{1,128}\\{0,63}["']?[ \t]{0,4}:[ \t]{1,4}(?:\\{0,63}["'])?([^\s"'\\{}|>,]{2,8192})"""
    rb"""(?:\\{0,63}["'])?[ \t]*(?:,[ \t]*)?(?:\r?\n|\\{1,63}n|(?=[\\"'}]|\Z)){0,4}"""
)


def manifests_in(data: bytes, lower: bytes) -> Iterator[Found]:
    """Find the values in manifests of Secrets. In `data` they are base64 and in `stringData` they are text."""
    end = 0
    for manifest in matches_at(_MANIFEST, lower, b"kind"):
        if manifest.start() < end:
            continue
        start = max(end, manifest.start() - _MANIFEST_REACH)
        for divider in _DOCUMENT.finditer(data, start, manifest.start()):
            start = divider.end()
        after = _DOCUMENT.search(data, manifest.end(), manifest.end() + _MANIFEST_REACH)
        end = after.start() if after is not None else min(len(data), manifest.end() + _MANIFEST_REACH)
        for block in _DATA.finditer(data, start, end):
            at = block.end()
            while (datum := _DATUM.match(data, at, end)) is not None:
                at = datum.end()
                if not is_placeholder(as_text(datum[1][:VALUE_REACH])):
                    yield Found(datum.start(1), datum.end(1), "secret", by_name=True)


MANIFEST_HINT = re.compile(rb"""kind[\\"']*\s*:\s*[\\"']*secret""")
