"""Ids and text: tokenizer, streaming decoder, stops, fill-in-the-middle prompts. No torch."""
