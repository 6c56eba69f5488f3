"""From documents to results, one class per step."""
