"""Everything that talks to PostHog: the sink for events, checks of a host or key (`probe`), links (`web_app`).

Other wings may import all three modules.
"""

from __future__ import annotations
