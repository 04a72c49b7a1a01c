"""The cloud's end of the link to the edges' local controllers.

The law: level-triggered and without a memory of its own. What a node should hold follows from the caches,
and a node says itself what it holds; what it reports is acknowledged when the API server has it. Who a node
is stands in its certificate and nowhere else. Nothing here keeps the reconciler waiting.
"""
