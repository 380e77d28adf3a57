"""From stored 0/1 outcomes to tables, fits, multipliers with intervals, figures and a report."""
