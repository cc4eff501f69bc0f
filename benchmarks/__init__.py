"""`make bench`: what llmsess costs beside the raw driver and beside peers, as ratios within one run."""
