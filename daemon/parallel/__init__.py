"""Whole sessions read by other processes, one for each core, while only this one decides what is sent.

    crew      the other processes: which session each reads, and what has come back
    worker    what such a process does: the same `Pipeline`, over assumptions instead of a store
    wire      what goes from one to the other
    assumed   what a worker assumed about other sessions, and what is checked of it
    choice    which sessions a worker may read, and which of its slices count
    remote    what stands for a worker's pipeline here
    preview   `preview` by it; the service has its read loop

A worker has no store. It assumes that nothing is settled but what it has read itself, and tells with each slice of a
session what it was asked and what it assumed. Here the slice counts only if the true answers are the same; then it is
handed over like one that was read here. Otherwise the session is read here. So the events are the same, whoever reads,
and a worker that dies costs nothing but its time.
"""
