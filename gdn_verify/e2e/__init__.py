"""End to end: greedy output of a real engine with one core of a Gated DeltaNet layer exchanged for another (floor 4).

A `Checkpoint` is a tiny model, a `Scenario` what is asked of an engine that serves it, a `Variant` whose core runs in
it, a `Transcript` what came out. Transcripts are held against each other (`difference`) and against honest noise
(`budget`); where one leaves it, `pinpoint` finds the launch, and makes a case of it.
"""
