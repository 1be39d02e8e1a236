"""The editing lab: one fact is rewritten, the two models stand side by side, nothing is kept from
anybody else."""
