"""From events to a receiver: batches, retries, and one delivery for each route.

The service imports `deliveries`; whoever builds a sink imports the `sink` protocol. `posthog` and `local` hold the two
sinks.
"""

from __future__ import annotations
