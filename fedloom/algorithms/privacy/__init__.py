"""What the updates may reveal: clipping and noise, what that costs, and sums that hide their terms.

Law: noise comes from the system's cryptographic source, never from the job's seed; a test passes
another one as an argument. Every bound says between which two worlds it holds (adjacency), and
errs on the side of the clients. Nothing here reads a file or knows a round.
"""
