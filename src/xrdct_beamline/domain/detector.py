"""DetectorGeometry: PONI and mask to pixel angles."""
