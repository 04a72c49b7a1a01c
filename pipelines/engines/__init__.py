"""Engines: each translates a plan for one way of running it.

The law: an engine knows tasks, groups, places and deadlines, never learning. `local` runs plans on warm
workers of this machine; the others submit workflows.
"""
