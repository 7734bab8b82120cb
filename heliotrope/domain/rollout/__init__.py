"""How a candidate becomes champion, or does not: a pure state machine and its evidence."""
