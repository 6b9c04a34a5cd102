"""Verifying: asks PostHog what it holds, and compares that with the logs and with what was settled.

`app` is PostHog's private API, asked with the user's personal key. `expectation` reads the logs, `recorded` the
receipts of what programs recorded, `holding` asks PostHog, `comparison` is how they differ, and `verification` does it
all for the chosen sessions. `dashboard` writes through the same API what PostHog shows of the events.
"""

from __future__ import annotations
