"""Item text: what the teacher reads of an item, one field-tagged string within a token budget."""
