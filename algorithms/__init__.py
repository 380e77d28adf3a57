"""One file a method: its loss and its recipe, to be read beside its paper."""
