"""Object detection with any template network as backbone (Sec. 5.4, Table 8, appendix B)."""
