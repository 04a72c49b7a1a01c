"""From desired state to actions: observe -> decide -> act.

The law: `decide` is pure and the only loop over rounds there is. Embedded and on a cluster differ in who
observes and who acts, never in what is decided. A controller keeps no state of its own: killed between any
two calls, the next observation says where things stand.
"""
