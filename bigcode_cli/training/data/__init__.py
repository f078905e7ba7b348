"""What is learned from: folders of source to a corpus of documents."""
