"""The torch-free engine: requests in, ids and text out, over whichever backend is there."""
