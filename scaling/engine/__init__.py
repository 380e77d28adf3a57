"""Run a plan: the scheduling loop, the workers, the artifact store and what the user sees meanwhile."""
