"""The lab of mass editing: many facts at once, and whether locating helps."""
