"""Off the serving path: the development loop on one machine."""
