"""The attention lab of the pages *Attention heads*, *Induction heads* and *Direct logit
attribution*: one lab, whose views come in another order on each page."""
