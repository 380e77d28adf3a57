"""What a plan costs: FLOPs, memory, time and money."""
