"""What is measured, and where it is looked at: one run per job, one step per round.

The law: a tracker takes committed results and gives nothing back that a round depends on. Whatever is
told twice is stored once. An outage is a TrackingUnavailableError, never a failed round. MLflow is
imported in `mlflow_tracker` and in the code that travels with a model, nowhere else; nothing here
imports numpy, so that the process that tracks stays small.
"""
