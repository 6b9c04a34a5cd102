"""Tells by its name whether a file is an archive or a log, how it is packed, and where a log goes."""

from __future__ import annotations

from daemon.following.log_roots import recognize

__all__ = ["ARCHIVES", "PACKINGS", "Packing", "is_archive", "packing_of", "place_of", "plain_name", "project_of"]

Packing = str
"""How a file is packed: "gz", "xz", "zst", or "" if it is not."""

PACKINGS = {".gz": "gz", ".xz": "xz", ".zst": "zst"}
"""The endings of packed files."""
ARCHIVES = (".tar", ".tgz", ".txz", ".tzst", ".zip", *(f".tar{ending}" for ending in PACKINGS))
"""The endings of archives."""

_UNNAMED = "archive"
"""The project folder of a log whose path has none."""
_LONGEST_NAME = 200
_DEEPEST = 24


def is_archive(name: str) -> bool:
    """Whether a file is an archive, judging by the suffix of its name."""
    return name.lower().endswith(ARCHIVES)


def packing_of(name: str) -> Packing:
    """Return how a file is packed, by its name."""
    lower = name.lower()
    if lower.endswith((".tgz", ".txz", ".tzst")):
        return lower.rpartition(".t")[2]
    return next((packing for ending, packing in PACKINGS.items() if lower.endswith(ending)), "")


def plain_name(name: str) -> str:
    """Return the name that a packed file has once it is unpacked."""
    ending = next((ending for ending in PACKINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def project_of(name: str) -> str | None:
    """Return the path of the project folder of a log, by the log's name; None if it is no log."""
    found = recognize(f"/{plain_name(name)}")
    if found is None or found[0].is_spool:
        return None
    return found[1].folder.strip("/")


def place_of(name: str) -> str | None:
    """Return where a log goes in a configuration folder; None for what is no log, or has a name that is not taken.

    Names of archives are anybody's: a path that leads out of the folder is no log's.
    """
    parts = plain_name(name).removeprefix("./").split("/")
    if len(parts) > _DEEPEST or any(
        part in ("", ".", "..") or "\0" in part or len(part.encode("utf-8", "surrogateescape")) > _LONGEST_NAME
        for part in parts[1 if parts[0] == "" else 0 :]
    ):
        return None
    path = "/" + "/".join(part for part in parts if part)
    found = recognize(path)
    if found is None or found[0].is_spool or not found[0].root_folders:
        return None
    agent, place = found
    root = agent.root_folders[0]
    if not agent.by_project:
        return f"{root}/{path.rpartition('/')[2]}"
    project = place.folder.rpartition("/")[2] or _UNNAMED
    return f"{root}/{project}{path[len(place.folder.rstrip('/')) :]}"
