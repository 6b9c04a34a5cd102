"""Verifying: asks PostHog what it holds, with the user's personal key.

`app` is the private API.
"""

from __future__ import annotations
