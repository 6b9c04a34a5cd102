"""The sink that sends events to PostHog, and the questions asked of PostHog besides.

`probe` asks whether a key works; `web_app` knows where PostHog shows a trace.
"""

from __future__ import annotations
