"""Code that makes data: problems, teacher solutions, rollouts, step values and preference pairs."""
