"""
The ten steps of the demo, in order.

A step is a function that gets the stage and takes notes: what it did, and each fact
that it saw, with whether it held. Raising is one more way not to hold.
"""
