"""Answers a question from the Markdown files of a folder: retrieval with embeddings, then one call of a model.

    OPENAI_API_KEY=... python examples/rag.py docs "How do I see what a session cost?"

Any API that speaks OpenAI's format does (OPENAI_BASE_URL). Besides the recorder it needs only the standard library.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import urllib.request
from pathlib import Path
from typing import Any

from llma_recorder import TraceRecorder

EMBEDDING_MODEL = "text-embedding-3-small"
CHAT_MODEL = "gpt-4o-mini"
BEST = 3


def post(path: str, body: dict[str, Any]) -> Any:
    """Send a request to the API, and return its answer."""
    base = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    headers = {"content-type": "application/json", "authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    request = urllib.request.Request(f"{base}/{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def embed(recorder: TraceRecorder, texts: list[str], name: str) -> list[list[float]]:
    """Return the vector of each text."""
    with recorder.embedding(model=EMBEDDING_MODEL, provider="openai", input=texts, name=name) as call:
        response = post("embeddings", {"model": EMBEDDING_MODEL, "input": texts})
        call.finish(response)
    return [each["embedding"] for each in response["data"]]


def likeness(left: list[float], right: list[float]) -> float:
    """Return the cosine of the angle between two vectors."""
    return sum(a * b for a, b in zip(left, right, strict=True)) / (math.hypot(*left) * math.hypot(*right))


def retrieve(recorder: TraceRecorder, passages: list[str], question: str) -> list[str]:
    """Return the passages that are most like the question, the best one first."""
    with recorder.span("retrieve", kind="retriever", input=question) as span:
        vectors = embed(recorder, passages, "index")
        [asked] = embed(recorder, [question], "question")
        scored = sorted(zip(vectors, passages, strict=True), key=lambda each: likeness(asked, each[0]), reverse=True)
        found = [passage for _, passage in scored[:BEST]]
        span.finish(found, passages=len(passages))
    return found


def answer(recorder: TraceRecorder, question: str, context: list[str]) -> str:
    """Return the model's answer."""
    messages = [
        {"role": "system", "content": "Answer from these passages only:\n\n" + "\n---\n".join(context)},
        {"role": "user", "content": question},
    ]
    with recorder.generation(model=CHAT_MODEL, provider="openai", input=messages, name="answer") as call:
        response = post("chat/completions", {"model": CHAT_MODEL, "messages": messages})
        call.finish(response)
    return str(response["choices"][0]["message"]["content"])


def main() -> None:
    """Answer the question, and ask whether the answer helped where somebody is there to say so."""
    parser = argparse.ArgumentParser(description="Answer a question from a folder of Markdown files.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("question")
    parser.add_argument("--user", default=None, help="who asks; the distinct id in PostHog")
    parser.add_argument("--helpful", choices=["yes", "no"], help="what the user thinks of the answer")
    options = parser.parse_args()
    passages = [
        part.strip()
        for path in sorted(options.folder.glob("*.md"))
        for part in path.read_text(encoding="utf-8").split("\n## ")
    ]
    with TraceRecorder("answer", distinct_id=options.user, properties={"folder": options.folder.name}) as recorder:
        said = answer(recorder, options.question, retrieve(recorder, passages, options.question))
        if options.helpful is not None:
            recorder.record_feedback("helpful", options.helpful == "yes")
        recorder.record_trace(input=options.question, output=said)
    print(said)


if __name__ == "__main__":
    main()
