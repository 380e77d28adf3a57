"""What a grid can be expected to show, before it runs."""
