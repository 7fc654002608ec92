"""Whether a result that was made before is what would be made now."""
