"""The Streamlit shell of Lens Lab; everything that computes is in ``lens_core``."""
