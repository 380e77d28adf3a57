"""D_syn: problems with a teacher's solutions, procedural or by chat models."""
