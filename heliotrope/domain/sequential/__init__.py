"""Sequential tests: valid however often one looks, in memory that does not grow.

`betting`: is a mean above or below a bound. `confidence`: where is a mean. `paired`: which of two
is better on the same rows. `charts` (made by `design`): when did an error rate rise, at an exactly
known rate of false alarms. `e_detector`: when did any bounded loss rise, at a guaranteed one.

All are vectorised over streams; a NaN says that a stream has no value in a row. States are arrays,
small, and survive a trip through JSON to the bit.
"""
