"""What is done with a batch at one destination: send it, ask whether it keeps it, conclude from the answer.

Each step may be done twice, and may be killed after each of its writes: it decides from its arguments, from the whole
outbox and from the rounds on record, never from what an earlier run of itself left half done.
"""
