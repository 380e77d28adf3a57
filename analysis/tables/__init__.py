"""From the store, or anyone's file, to tables of runs and outcomes."""
