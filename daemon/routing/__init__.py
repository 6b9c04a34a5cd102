"""Decides where a session's events go, who they belong to, and whether the session waits for the user's approval.

Other wings import `routing` and `decisions`, and build the `Repositories` of `repository`.
"""

from __future__ import annotations
