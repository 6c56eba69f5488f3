"""Phase: reflections and structure factors from a CIF."""
