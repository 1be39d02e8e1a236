"""Interactive pieces that Streamlit lacks: components v2 in plain JavaScript, no build step."""
