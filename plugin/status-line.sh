#!/bin/sh
# A status line for Claude Code: what this session and today cost, or whom to ask why that is not known.
# Claude Code gives a JSON object with the session's id on standard input, which `usage` reads.
posthog-llma-daemon usage --statusline 2>/dev/null || echo "no costs: see posthog-llma-daemon doctor"
