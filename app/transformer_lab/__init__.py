"""The lab of lesson 1: every number of one forward pass, and what one changed weight does."""
