"""Many points of one experiment: which they are, who simulates them, where they are kept.

A `Sweep` says which keys of an experiment take which values. Its points are pure: what comes out of one
depends on nothing but its settings, so that they may be computed anywhere, in any order, and again.
"""
