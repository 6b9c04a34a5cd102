"""What sessions cost, what failed and what took long: questions to the local file, and prices.

`daemon.cli` asks them. Other wings import nothing from here.
"""

from __future__ import annotations
