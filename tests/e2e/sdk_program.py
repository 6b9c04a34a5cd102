"""A program that lets Claude Code do the work, by the real Claude Agent SDK. It prints what it received.

python sdk_program.py PATH_OF_THE_CLIENT
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage
from llma_recorder.claude_agent_sdk import query, track

OPTIONS = ClaudeAgentOptions(cli_path=sys.argv[1], allowed_tools=["Bash", "Agent", "Task"])


def show(script: str, message: ResultMessage) -> None:
    names = ("session_id", "subtype", "num_turns", "duration_api_ms", "total_cost_usd")
    sys.stdout.write(json.dumps({"script": script, **{name: getattr(message, name) for name in names}}) + "\n")


async def ask(script: str, options: ClaudeAgentOptions, **about: Any) -> None:
    async for message in query(prompt=f"Do what is to be done. [[{script}]]", options=options, **about):
        if isinstance(message, ResultMessage):
            show(script, message)


async def main() -> None:
    about: dict[str, Any] = {"distinct_id": "review-bot", "properties": {"pull_request": 52984}}
    await ask("mixed", OPTIONS, **about, groups={"company": "orchard"}, trace_name="Review")
    client = track(ClaudeSDKClient(OPTIONS), distinct_id="chat-user", privacy_mode=True)
    async with client:
        for script in ("plain", "further"):
            await client.query(f"Do what is to be done. [[{script}]]")
            async for message in client.receive_response():
                if isinstance(message, ResultMessage):
                    show(script, message)


asyncio.run(main())
