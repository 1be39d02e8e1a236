"""The held-out examination of a trained tiny-world: what it must show before it ships.

``python -m lens_core.world.evaluate`` runs it and writes the model card. Tracing and editing are
written here in their plainest form, without the analyses of the rest of ``lens_core``: the gate
must not depend on the code that it will later vouch for.
"""
