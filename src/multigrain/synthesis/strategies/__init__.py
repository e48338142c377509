"""One file a strategy: how a document becomes a query, a positive and graded negatives."""
