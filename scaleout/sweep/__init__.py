"""Many points of one experiment: which they are, who simulates them, where they are kept.

A `Sweep` says which keys of an experiment take which values. Its points are pure: what comes out of one
depends on nothing but its settings, so that they may be computed anywhere, in any order, and again.

From a file to a table: ``files`` reads a ``spec``; ``points`` enumerates it by ``rules``, which see ``columns`` and
know what does not ``divide``. ``evaluate`` makes the experiments of points (``build``, ``seeds``), takes training in
closed form many at a time (``screen``) and gives ``outcomes``. ``run`` has ``execute`` compute what the ``store`` (its
tables: ``schema``) does not have by ``identity``, and tells its ``progress``. ``results`` is the table, ``export``
writes it.
"""
