"""Delivery of events to a receiver: batches, retries, and one delivery for each route, with the sinks they send to.

Other wings import `deliveries`, `delivery`, `route` and the protocol `sink`. `posthog` and `local` implement the
protocol; only code that builds a sink or reads its events imports them.
"""

from __future__ import annotations
