#!/bin/sh
# A status line for Claude Code: the address of the session in PostHog, or what is wrong with the daemon.
# Claude Code gives a JSON object with the session's id on standard input.
session=$(sed -n 's/.*"session_id" *: *"\([0-9A-Za-z-]*\)".*/\1/p' | head -n 1)
if address=$(posthog-llma-daemon traces --url "$session" 2>/dev/null); then
  echo "PostHog: $address"
else
  echo "PostHog: not set up, see posthog-llma-daemon doctor"
fi
