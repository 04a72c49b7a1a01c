"""What cloud and edge say to each other: messages, bodies, TLS.

The law: both sides import it, it imports neither. Whatever comes in is bounded before it is read and checked
before it is used; a refusal names the field. Nothing here keeps anything.
"""
