"""How a report is worded and rendered."""
