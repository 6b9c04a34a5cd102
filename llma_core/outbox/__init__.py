"""The outbox: lines that programs write about their own calls of models, each a finished event."""

from __future__ import annotations
